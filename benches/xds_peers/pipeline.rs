//! The whole way of one change here: event → index → resources → cache → wire → Envoy's ACK.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use harness::envoy_binary::Locator;
use tokio_util::sync::CancellationToken;
use xds::{Cache, Change, Clients, ListenAddress, Protocol, Version, bind};

use crate::{
    Failure,
    common::{
        envoy::Envoy,
        process::{cpu, resident_megabytes},
        table::{Sorted, grouped, milliseconds, print},
    },
    file::Resource,
    table::nothing,
    world::{Step, World},
};

/// How long an ACK is awaited.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures at each of these numbers of services; with Envoy up to `with_envoy`.
pub(crate) async fn pipeline(sizes: &[usize], with_envoy: usize, changes: usize) -> Result<(), Failure> {
    let envoy = Locator::from_env().locate(&|line| eprintln!("{line}")).await?;
    let mut rows = Vec::new();
    for &services in sizes {
        let program = (services <= with_envoy).then_some(envoy.as_path());
        let mut line = Line::start(services, program).await?;
        for step in Step::ALL {
            rows.push(line.measure(step, changes).await?);
        }
    }
    let header =
        ["change", "services", "published ms", "p99", "Envoy's ACK ms", "p99", "Envoy CPU ms", "Envoy MB"];
    // One kind of change after the other, so that its growth shows.
    rows.sort_by_key(|row| row.step);
    let rows: Vec<_> = rows.into_iter().map(|row| row.cells).collect();
    print("From the event to Envoy, with one other domain for ten services", &header, &rows);
    Ok(())
}

/// A mesh without its sockets to the world, and its Envoy.
struct Line {
    services: usize,
    world: World,
    cache: Cache,
    clients: Clients,
    envoy: Option<Envoy>,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

struct Row {
    step: Step,
    cells: Vec<String>,
}

impl Line {
    async fn start(services: usize, envoy: Option<&Path>) -> Result<Self, Failure> {
        let world = World::new(services, harness::free_address()?, harness::free_address()?)?;
        let (cache, clients, stop) = (Cache::new(), Clients::new(), CancellationToken::new());
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("xds.sock");
        let resources = world.resources()?;
        cache.replace(resources.iter().cloned().map(|Resource { ty, name, body }| (ty, name, body)));
        let bound = bind(&ListenAddress::Unix(socket.clone()))?;
        tokio::spawn(bound.serve(cache.clone(), clients.clone(), stop.clone()));
        let stop = stop.drop_guard();
        let envoy = match envoy {
            Some(envoy) => Some(Envoy::start(envoy, folder.path(), &socket, Protocol::Delta).await?),
            None => None,
        };
        let line = Self { services, world, cache, clients, envoy, _folder: folder, _stop: stop };
        line.acknowledged(&resources).await?;
        Ok(line)
    }

    async fn measure(&mut self, step: Step, changes: usize) -> Result<Row, Failure> {
        let (mut published, mut acked) = (Vec::new(), Vec::new());
        let before = self.envoy_cpu()?;
        for number in 0..changes {
            let objects = self.world.objects(step, number)?;
            let started = Instant::now();
            let changed = self.world.apply(objects)?;
            self.cache.apply(
                changed
                    .iter()
                    .map(|Resource { ty, name, body }| Change::Set(*ty, name.clone(), body.clone())),
            );
            published.push(started.elapsed());
            self.acknowledged(&changed).await?;
            acked.push(started.elapsed());
        }
        let spent = self.envoy_cpu()?.zip(before).map(|(after, before)| (after - before) / changes as u32);
        let memory = self.envoy.as_ref().map(|envoy| resident_megabytes(envoy.pid()?)).transpose()?;
        let (published, acked) = (Sorted::of(&published), Sorted::of(&acked));
        let with_envoy = |value: Duration| memory.map_or_else(nothing, |_| milliseconds(value));
        let cells = vec![
            step.title().to_owned(),
            grouped(self.services as u64),
            milliseconds(published.median),
            milliseconds(published.p99),
            with_envoy(acked.median),
            with_envoy(acked.p99),
            spent.map_or_else(nothing, milliseconds),
            memory.map_or_else(nothing, |megabytes| format!("{megabytes:.0}")),
        ];
        Ok(Row { step, cells })
    }

    /// Returns once Envoy holds all of these; at once without Envoy.
    async fn acknowledged(&self, resources: &[Resource]) -> Result<(), Failure> {
        if self.envoy.is_none() {
            return Ok(());
        }
        let held = async {
            for Resource { ty, name, body } in resources {
                self.clients.acknowledged(*ty, name, Version::of(body)).await;
            }
        };
        Ok(tokio::time::timeout(PATIENCE, held).await.map_err(|_| format!("no ACK within {PATIENCE:?}"))?)
    }

    fn envoy_cpu(&self) -> Result<Option<Duration>, Failure> {
        self.envoy.as_ref().map(|envoy| cpu(envoy.pid()?)).transpose()
    }
}
