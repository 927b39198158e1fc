//! What is measured.

use std::{collections::HashMap, time::Duration};

use tokio::time::sleep;
use xds::ResourceType;

use crate::{
    Failure,
    client::Client,
    common::{
        envoy::Envoy,
        process::{cpu, resident_megabytes},
        table::{grouped, milliseconds, print},
    },
    contestants::{CONTESTANTS, Contestant, Layout, Programs},
    file::Resource,
    material::{Alternating, BURST, Material, Materials},
    peer::Server,
    table::{Figures, Median, median, print_changes},
    world::Kind,
};

/// Changes of each kind that are made before any is measured; an even number, as every other takes back the last.
const WARM_UP: usize = 4;

/// The least time after an ACK that still counts as the change's, in processor time: a response of another type may be
/// on its way. It is as long as the change took where that is more.
const AFTERMATH: Duration = Duration::from_millis(10);

/// How long the changes of a burst are made at most.
const BURST_LIMIT: Duration = Duration::from_secs(30);

/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(2);

/// A server with its only client.
struct Pair<'a> {
    contestant: &'static Contestant,
    material: &'a Material,
    server: Server,
    client: Connected,
}

enum Connected {
    Here(Client),
    Envoy(Box<Envoy>),
}

/// Who the contestants' clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client in this process that acknowledges at once.
    Here,
    /// Envoy.
    Envoy,
}

impl Side {
    fn title(self) -> &'static str {
        match self {
            Self::Here => "client that acknowledges at once",
            Self::Envoy => "Envoy",
        }
    }
}

/// Changes one at a time, and answers how long they took.
pub(crate) async fn one_at_a_time(
    side: Side,
    programs: &Programs,
    materials: &Materials,
    changes: usize,
) -> Result<Vec<Median>, Failure> {
    let mut pairs = Vec::new();
    for contestant in &CONTESTANTS {
        pairs.push(Pair::start(contestant, side, programs, materials).await?);
    }
    let mut medians = Vec::new();
    for kind in Kind::ALL {
        let rows = rounds(&mut pairs, kind, changes).await?;
        let title = format!("{}, {}", side.title(), kind.title());
        print_changes(&format!("{} services, {title}", grouped(materials.services as u64)), &rows);
        medians.extend(rows.iter().map(|row| Median {
            title: title.clone(),
            contestant: row.contestant,
            services: materials.services,
            acked: median(&row.acked),
        }));
    }
    if side == Side::Envoy {
        let mut rows = Vec::new();
        for pair in &pairs {
            if let Connected::Envoy(envoy) = &pair.client {
                let megabytes = resident_megabytes(envoy.pid()?)?;
                rows.push(vec![pair.contestant.name.to_owned(), format!("{megabytes:.0}")]);
            }
        }
        print("Envoy's own memory after these changes", &["", "RSS MB"], &rows);
    }
    Ok(medians)
}

/// Makes the same kind of change at all contestants in turn.
async fn rounds(pairs: &mut [Pair<'_>], kind: Kind, changes: usize) -> Result<Vec<Figures>, Failure> {
    let mut runs = Vec::new();
    for pair in pairs {
        if let Some(change) = pair.material.change(kind) {
            runs.push(Run::prepare(pair, change).await?);
        }
    }
    for number in 0..changes {
        for run in &mut runs {
            run.once(number).await?;
        }
    }
    let mut rows = Vec::new();
    for run in runs {
        rows.push(run.figures().await?);
    }
    Ok(rows)
}

/// One kind of change at one contestant.
struct Run<'r, 'm> {
    pair: &'r mut Pair<'m>,
    ids: [u64; 2],
    /// The types whose responses bring the change.
    types: Vec<ResourceType>,
    received: Vec<Duration>,
    acked: Vec<Duration>,
    server_cpu: Duration,
    client_cpu: Duration,
    bytes_before: u64,
}

impl<'r, 'm> Run<'r, 'm> {
    async fn prepare(pair: &'r mut Pair<'m>, change: &Alternating) -> Result<Self, Failure> {
        let [there, back] = &change.files;
        let ids = [pair.server.change(there).await?, pair.server.change(back).await?];
        let layout = pair.contestant.layout;
        let types = change.there.iter().map(|resource| match (layout, resource.ty) {
            (Layout::Kuscia, ResourceType::VirtualHost) => ResourceType::RouteConfiguration,
            (_, ty) => ty,
        });
        let types = types.collect();
        for number in 0..WARM_UP {
            pair.server.apply(ids[number % 2]).await?;
        }
        Ok(Self {
            ids,
            types,
            received: Vec::new(),
            acked: Vec::new(),
            server_cpu: Duration::ZERO,
            client_cpu: Duration::ZERO,
            bytes_before: pair.received_bytes().await?,
            pair,
        })
    }

    async fn once(&mut self, number: usize) -> Result<(), Failure> {
        if let Connected::Here(client) = &self.pair.client {
            client.arm(self.types.clone());
        }
        let (server_before, client_before) = self.pair.cpu()?;
        let times = self.pair.server.apply(self.ids[number % 2]).await?;
        let took = times.acked.saturating_sub(times.started);
        sleep(took.max(AFTERMATH)).await;
        let (server_after, client_after) = self.pair.cpu()?;
        self.acked.push(took);
        self.server_cpu += server_after.saturating_sub(server_before);
        self.client_cpu += client_after.saturating_sub(client_before);
        if let Connected::Here(client) = &self.pair.client {
            let came = client.came().ok_or("an ACK without a response")?;
            self.received.push(came.saturating_sub(times.started));
        }
        Ok(())
    }

    async fn figures(self) -> Result<Figures, Failure> {
        let changes = u32::try_from(self.acked.len())?.max(1);
        let bytes = self.pair.received_bytes().await? - self.bytes_before;
        Ok(Figures {
            contestant: self.pair.contestant.name,
            received: self.received,
            acked: self.acked,
            server_cpu: self.server_cpu / changes,
            client_cpu: matches!(self.pair.client, Connected::Envoy(_)).then_some(self.client_cpu / changes),
            bytes: bytes / u64::from(changes),
        })
    }
}

impl<'a> Pair<'a> {
    async fn start(
        contestant: &'static Contestant,
        side: Side,
        programs: &Programs,
        materials: &'a Materials,
    ) -> Result<Self, Failure> {
        let material = materials.of(contestant.layout);
        let folder = tempfile::tempdir_in(&materials.folder)?.keep();
        let socket = folder.join("xds.sock");
        let server = Server::start(contestant, programs, &socket, &material.file).await?;
        let client = match side {
            Side::Here => {
                let client = Client::connect(&socket, contestant.protocol, &material.resources).await?;
                client.until_named(&material.resources).await?;
                Connected::Here(client)
            }
            Side::Envoy => {
                let envoy = Envoy::start(&programs.envoy, &folder, &socket, contestant.protocol).await?;
                Connected::Envoy(Box::new(envoy))
            }
        };
        Ok(Self { contestant, material, server, client })
    }

    /// Processor time of the server so far, and of an Envoy.
    fn cpu(&self) -> Result<(Duration, Duration), Failure> {
        let client = match &self.client {
            Connected::Here(_) => Duration::ZERO,
            Connected::Envoy(envoy) => cpu(envoy.pid()?)?,
        };
        Ok((cpu(self.server.pid()?)?, client))
    }

    async fn received_bytes(&self) -> Result<u64, Failure> {
        match &self.client {
            Connected::Here(client) => Ok(client.received_bytes()),
            Connected::Envoy(envoy) => envoy.received_bytes().await,
        }
    }
}

/// Many changes as fast as they can be made, with a client in this process.
pub(crate) async fn bursts(programs: &Programs, materials: &Materials) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for contestant in &CONTESTANTS {
        let mut pair = Pair::start(contestant, Side::Here, programs, materials).await?;
        rows.push(burst(&mut pair).await?);
    }
    let header =
        ["", "changes", "until made ms", "until held ms", "changes/s", "responses", "MB", "server CPU s"];
    let services = grouped(materials.services as u64);
    print(
        &format!(
            "{services} services, {BURST} moves of services, one after the other, within {BURST_LIMIT:?}"
        ),
        &header,
        &rows,
    );
    Ok(())
}

async fn burst(pair: &mut Pair<'_>) -> Result<Vec<String>, Failure> {
    let Connected::Here(client) = &pair.client else { return Err("a burst needs a client here".into()) };
    let moves = &pair.material.moves;
    let first = pair.server.changes(&pair.material.moves_file).await?;
    let (responses, bytes) = (client.responses(), client.received_bytes());
    let cpu_before = cpu(pair.server.pid()?)?;
    let burst = pair.server.burst(first, moves.len(), BURST_LIMIT).await?;
    let last: HashMap<&str, &Resource> =
        moves[..burst.made].iter().map(|resource| (resource.name.as_str(), resource)).collect();
    let held = client.until_held(&last).await?;
    let until_held = held.saturating_sub(burst.started).max(burst.ended.saturating_sub(burst.started));
    let cpu_after = cpu(pair.server.pid()?)?;
    Ok(vec![
        pair.contestant.name.to_owned(),
        grouped(burst.made as u64),
        milliseconds(burst.ended.saturating_sub(burst.started)),
        milliseconds(until_held),
        format!("{:.0}", burst.made as f64 / until_held.as_secs_f64()),
        grouped(client.responses() - responses),
        format!("{:.1}", (client.received_bytes() - bytes) as f64 / 1e6),
        format!("{:.2}", cpu_after.saturating_sub(cpu_before).as_secs_f64()),
    ])
}

/// Resident memory of the servers with one client, at each of these sizes.
pub(crate) async fn memory(programs: &Programs, sizes: &[usize]) -> Result<(), Failure> {
    let mut rows: Vec<_> = CONTESTANTS.iter().map(|contestant| vec![contestant.name.to_owned()]).collect();
    let mut contents = vec!["the resources alone, encoded".to_owned()];
    let mut header = vec!["".to_owned()];
    let mut empty = Vec::new();
    for services in [0].into_iter().chain(sizes.iter().copied()) {
        let folder = tempfile::tempdir()?;
        let materials = Materials::write_resources(folder.path(), services)?;
        let bytes: usize =
            materials.of(Layout::Ours).resources.iter().map(|it| it.name.len() + it.body.len()).sum();
        let content = bytes as f64 / f64::from(1 << 20);
        header.push(format!("{} MB", grouped(services as u64)));
        contents.push(format!("{content:.1}"));
        if services > 0 {
            header.push("per 1,000".to_owned());
            contents.push(format!("{:.2}", content * 1000.0 / services as f64));
        }
        for (position, contestant) in CONTESTANTS.iter().enumerate() {
            let megabytes = resident(contestant, programs, &materials).await?;
            rows[position].push(format!("{megabytes:.1}"));
            match empty.get(position) {
                None => empty.push(megabytes),
                Some(empty) => {
                    rows[position].push(format!("{:.2}", (megabytes - empty) * 1000.0 / services as f64));
                }
            }
        }
    }
    rows.push(contents);
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    print("Resident memory of the server with one client, at so many services", &header, &rows);
    Ok(())
}

async fn resident(
    contestant: &'static Contestant,
    programs: &Programs,
    materials: &Materials,
) -> Result<f64, Failure> {
    let pair = Pair::start(contestant, Side::Here, programs, materials).await?;
    sleep(SETTLE).await;
    resident_megabytes(pair.server.pid()?)
}
