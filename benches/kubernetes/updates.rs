//! What one change costs on the wire between the program and the API server.

use std::time::Duration;

use model::api::DomainRoute;
use tokio::time::{sleep, timeout};

use crate::common::table::{grouped, print};
use crate::counter::Counts;
use crate::mesh::Mesh;
use crate::world::{DOMAIN, World, address, partner, service_name};
use crate::{Failure, Setting};

/// How long nothing must come or go after a change.
const SILENCE: Duration = Duration::from_millis(40);

/// Pause between two questions whether a token is ready.
const POLL: Duration = Duration::from_millis(5);

/// How long a token may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes each kind of change so often, one at a time.
pub(crate) async fn measure(setting: &Setting, changes: usize) -> Result<(), Failure> {
    let world = &setting.world;
    let mut mesh = Mesh::new(setting).await?;
    mesh.start(world.services, world.routes).await?;
    mesh.counter().settled().await?;
    let mut rows = Vec::new();
    if world.services > 0 {
        let mut moves = Vec::new();
        for number in 0..changes {
            let before = mesh.counter().silent(SILENCE).await;
            let service = service_name(number % world.services);
            world.patch_slice(&service, address(world.services + number)).await?;
            moves.push(mesh.counter().silent(SILENCE).await - before);
        }
        rows.push(row("an EndpointSlice changes", &moves));
    }
    if world.routes > 1 {
        let mut offers = Vec::new();
        for number in 0..changes {
            let before = mesh.counter().silent(SILENCE).await;
            offer_token(world, number).await?;
            offers.push(mesh.counter().silent(SILENCE).await - before);
        }
        rows.push(row("a token is offered; its status is written", &offers));
    }
    mesh.stop_envoy().await?;
    mesh.stop_mesh().await?;
    let header = ["change", "from API server", "99th percentile", "to API server", "99th percentile"];
    print("Bytes between program and API server, for one change", &header, &rows);
    Ok(())
}

/// As another gateway of the domain does: stores a token that this one then lists itself for, which makes it ready.
async fn offer_token(world: &World, number: usize) -> Result<(), Failure> {
    let inbound = 2 * (number % (world.routes / 2)) + 1;
    let route = format!("{}-{DOMAIN}", partner(inbound));
    let revision = u32::try_from(number)? + 2;
    world.patch_status(&route, &world.tokens(revision, false)?).await?;
    let ready = async {
        loop {
            let status = world.api::<DomainRoute>().get(&route).await?.status.unwrap_or_default();
            if status.token_status.revision_token.is_ready {
                return Ok(());
            }
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, ready).await.map_err(|_| format!("the token of {route} is not ready in time"))?
}

/// Heartbeats and bookmarks, which come now and then, are above the median.
fn row(title: &str, counts: &[Counts]) -> Vec<String> {
    let sorted = |bytes: fn(&Counts) -> u64| {
        let mut sorted: Vec<u64> = counts.iter().map(bytes).collect();
        sorted.sort_unstable();
        [50, 99].map(|share| grouped(sorted.get(sorted.len() * share / 100).copied().unwrap_or_default()))
    };
    let cells = [sorted(|counts| counts.from_server), sorted(|counts| counts.to_server)].concat();
    [vec![title.to_owned()], cells].concat()
}
