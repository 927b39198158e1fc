//! How soon Envoy has what changes in the API server, one change at a time.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use model::api::DomainRoute;
use model::{DomainId, InboundAuth, OutboundAuth, ServiceName, Snapshot, Token};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::common::process::cpu;
use crate::common::table::{Sorted, grouped, milliseconds, print};
use crate::line::{Line, Passage};
use crate::world::{DOMAIN, PORT, World, address, partner, service, service_name, slice};
use crate::{Failure, Setting};

/// Pause after a change: what it left to do must not meet the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the plain watch may take to see a change.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service without Endpoints, which would go on telling the old address.
const MOVING: &str = "moving";

/// The revision of the first token that is rolled: beyond those that are there.
const FIRST_REVISION: u32 = 10_000;

/// The number of the first new address: beyond those that are there.
const FIRST_ADDRESS: usize = 1 << 21;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The endpoint of a service.
    Endpoint,
    /// A service is new, with its EndpointSlice.
    Service,
    /// The token that is sent to a partner.
    TokenSent,
    /// The token that is accepted from a partner.
    TokenAccepted,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Endpoint, Self::Service, Self::TokenSent, Self::TokenAccepted];

    fn title(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint moved",
            Self::Service => "service added",
            Self::TokenSent => "token to send rolled",
            Self::TokenAccepted => "token to accept rolled",
        }
    }
}

/// What one change took, from just before it was sent.
struct Times {
    /// The API server had answered.
    answered: Duration,
    /// A plain watch, in this process too, had seen it.
    seen: Duration,
    heard: Duration,
    published: Duration,
    acknowledged: Duration,
}

/// Makes each kind of change so often.
pub(crate) async fn measure(setting: &Setting, changes: usize) -> Result<(), Failure> {
    let world = &setting.world;
    world.create::<Service>(service(MOVING)).await?;
    world.create::<EndpointSlice>(slice(MOVING, address(0))).await?;
    let mut line = Line::start(setting).await?;
    let mut floor = Floor::watch(world).await?;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let with_tokens = matches!(kind, Kind::TokenSent | Kind::TokenAccepted);
        if with_tokens && world.routes < 2 {
            continue;
        }
        let before = (line.envoy.received_bytes().await?, cpu(line.envoy.pid()?)?);
        let mut times = Vec::new();
        for number in 0..changes {
            let change = OneChange::new(kind, number, world)?;
            times.push(one(&change, world, &mut line, &mut floor).await?);
            sleep(PAUSE).await;
        }
        let bytes = (line.envoy.received_bytes().await? - before.0) / changes as u64;
        let spent = (cpu(line.envoy.pid()?)? - before.1) / u32::try_from(changes)?;
        rows.push(row(kind, &times, bytes, spent));
    }
    let header = [
        "change",
        "answered ms",
        "plain watch ms",
        "p99",
        "event ms",
        "published ms",
        "ACK ms",
        "p99",
        "ACK after answer ms",
        "p99",
        "ACK after plain watch ms",
        "p99",
        "Envoy bytes",
        "Envoy CPU ms",
    ];
    let title = format!(
        "From the change in the API server to Envoy's ACK, at {} services and {} routes",
        grouped(world.services as u64),
        grouped(world.routes as u64),
    );
    print(&title, &header, &rows);
    Ok(())
}

async fn one(
    change: &OneChange,
    world: &World,
    line: &mut Line,
    floor: &mut Floor,
) -> Result<Times, Failure> {
    let started = Instant::now();
    let written = async {
        let versions = change.write(world).await?;
        Ok::<_, Failure>((versions, Instant::now()))
    };
    let follow = line.follow(|snapshot| change.is_in(snapshot));
    let ((versions, answered), Passage { heard, published, acknowledged }) =
        tokio::try_join!(written, follow)?;
    let seen = floor.seen(versions).await?;
    Ok(Times {
        answered: answered - started,
        seen: seen - started,
        heard: heard - started,
        published: published - started,
        acknowledged: acknowledged - started,
    })
}

/// A change that is not made yet.
struct OneChange {
    kind: Kind,
    /// The service, or the domain at the other end of the route.
    name: String,
    ip: Ipv4Addr,
    revision: u32,
    tokens: Value,
}

impl OneChange {
    /// Other numbers give other changes.
    fn new(kind: Kind, number: usize, world: &World) -> Result<Self, Failure> {
        let route = || 2 * (number % (world.routes / 2));
        let name = match kind {
            Kind::Endpoint => MOVING.to_owned(),
            Kind::Service => service_name(world.services + number),
            Kind::TokenSent => partner(route()),
            Kind::TokenAccepted => partner(route() + 1),
        };
        let revision = FIRST_REVISION + u32::try_from(number)?;
        let ip = address(FIRST_ADDRESS + number);
        Ok(Self { kind, name, ip, revision, tokens: world.tokens(revision, true)? })
    }

    /// Changes the API server's objects, and returns the resource versions of what was written.
    async fn write(&self, world: &World) -> Result<Vec<String>, Failure> {
        let Self { name, .. } = self;
        Ok(match self.kind {
            Kind::Endpoint => vec![version(&world.patch_slice(name, self.ip).await?)],
            Kind::Service => {
                let (service, slice) = tokio::try_join!(
                    world.create::<Service>(service(name)),
                    world.create::<EndpointSlice>(slice(name, self.ip)),
                )?;
                vec![version(&service), version(&slice)]
            }
            Kind::TokenSent => {
                vec![version(&world.patch_status(&format!("{DOMAIN}-{name}"), &self.tokens).await?)]
            }
            Kind::TokenAccepted => {
                vec![version(&world.patch_status(&format!("{name}-{DOMAIN}"), &self.tokens).await?)]
            }
        })
    }

    fn is_in(&self, snapshot: &Snapshot) -> bool {
        let is_new = |token: &Token| token.revision == i64::from(self.revision);
        match self.kind {
            Kind::Endpoint | Kind::Service => self.name.parse().is_ok_and(|name: ServiceName| {
                let service = snapshot.services.get(&name);
                service.is_some_and(|service| *service.endpoints == [SocketAddr::from((self.ip, PORT))])
            }),
            Kind::TokenSent => self.name.parse().is_ok_and(|partner: DomainId| {
                let auth = snapshot.outbound.get(&partner).map(|route| &route.auth);
                matches!(auth, Some(OutboundAuth::Token { sending: Some(token), .. }) if is_new(token))
            }),
            Kind::TokenAccepted => self.name.parse().is_ok_and(|partner: DomainId| {
                let auth = snapshot.inbound.get(&partner).map(|route| &route.auth);
                matches!(auth, Some(InboundAuth::Token { accepted, .. }) if accepted.iter().any(is_new))
            }),
        }
    }
}

fn version(object: &impl ResourceExt) -> String {
    object.resource_version().unwrap_or_default()
}

/// Plain watches of the same objects: what the API server and kube's client take by themselves.
struct Floor {
    /// Resource versions, and when they came.
    seen: mpsc::UnboundedReceiver<(String, Instant)>,
}

impl Floor {
    /// Watches once everything is listed.
    async fn watch(world: &World) -> Result<Self, Failure> {
        let (seen_in, seen) = mpsc::unbounded_channel();
        tokio::try_join!(
            observe(world.api::<Service>(), seen_in.clone()),
            observe(world.api::<EndpointSlice>(), seen_in.clone()),
            observe(world.api::<DomainRoute>(), seen_in),
        )?;
        Ok(Self { seen })
    }

    /// When the last of these resource versions had come.
    async fn seen(&mut self, mut versions: Vec<String>) -> Result<Instant, Failure> {
        let seen = async {
            loop {
                let (version, at) = self.seen.recv().await.ok_or("the plain watch has ended")?;
                versions.retain(|awaited| *awaited != version);
                if versions.is_empty() {
                    return Ok(at);
                }
            }
        };
        timeout(PATIENCE, seen).await.map_err(|_| "the plain watch does not see a change")?
    }
}

/// Returns once all objects are listed; tells of those that change then.
async fn observe<K>(api: Api<K>, seen: mpsc::UnboundedSender<(String, Instant)>) -> Result<(), Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
    K: DeserializeOwned + Send + 'static,
{
    let mut objects = watcher(api, watcher::Config::default().streaming_lists()).boxed();
    while !matches!(objects.try_next().await?, Some(watcher::Event::InitDone)) {}
    tokio::spawn(async move {
        while let Ok(Some(event)) = objects.try_next().await {
            if let watcher::Event::Apply(object) = event {
                seen.send((version(&object), Instant::now()))?;
            }
        }
        Ok::<_, Failure>(())
    });
    Ok(())
}

fn row(kind: Kind, times: &[Times], bytes: u64, spent: Duration) -> Vec<String> {
    let sorted = |time: fn(&Times) -> Duration| Sorted::of(&times.iter().map(time).collect::<Vec<_>>());
    let both = |sorted: Sorted| [milliseconds(sorted.median), milliseconds(sorted.p99)];
    let median = |sorted: Sorted| [milliseconds(sorted.median)];
    [
        &[kind.title().to_owned()][..],
        &median(sorted(|times| times.answered)),
        &both(sorted(|times| times.seen)),
        &median(sorted(|times| times.heard)),
        &median(sorted(|times| times.published)),
        &both(sorted(|times| times.acknowledged)),
        &both(sorted(|times| times.acknowledged.saturating_sub(times.answered))),
        &both(sorted(|times| times.acknowledged.saturating_sub(times.seen))),
        &[grouped(bytes), milliseconds(spent)],
    ]
    .concat()
}
