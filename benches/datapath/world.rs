//! Alice and bob, their meshes and Envoys, and the service that all call.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use harness::process::Child;
use networkmesh::harness::domain::{Domain, Home, service_manifest};
use networkmesh::http::Target;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::frozen::Dumps;
use crate::gateways::{Gateways, Places, ask, start_static};
use crate::load::{Body, HOST};
use crate::{Failure, OTHERS, plain, process};

/// Ten thousand routes take a debug build some time.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(50);

/// How long bob's processes are looked at, and the processor time that they may take meanwhile, to be at rest.
const LOOK: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(50);

pub(crate) struct World {
    alice: Domain,
    bob: Domain,
    envoy: PathBuf,
    service: (SocketAddr, Child),
    // Dropped after the processes, which write into it.
    folder: TempDir,
}

impl World {
    /// Alice has a token for bob, and bob's service answers her.
    pub(crate) async fn start(envoy: &Path) -> Result<Self, Failure> {
        let program = Path::new(env!("CARGO_BIN_EXE_networkmesh"));
        let folder = tempfile::tempdir()?;
        let address = harness::free_address()?;
        let service = start_static(envoy, folder.path(), "service", plain::service(address)).await?;
        process::pin(service.pid().ok_or("the service has ended")?, OTHERS).await?;
        let config = json!({"envoy": {"accessLog": "off"}});
        let mut alice = Domain::lay_out(folder.path(), "alice", Home::Folder, &config)?;
        let mut bob = Domain::lay_out(folder.path(), "bob", Home::Folder, &config)?;
        bob.apply("web.json", &service_manifest("web", &[address])).await?;
        let route = alice.route_to(&bob);
        for domain in [&mut alice, &mut bob] {
            domain.apply("alice-bob.json", &route).await?;
            domain.start_mesh(program).await?;
            domain.start_envoy(program, envoy).await?;
        }
        let url = format!("http://{HOST}{}", Body::Small.path());
        until(async || Ok(alice.call(&url).await?.status() == 200)).await?;
        Ok(Self { alice, bob, envoy: envoy.to_owned(), service: (address, service), folder })
    }

    /// The Envoys of alice and bob.
    pub(crate) async fn meshes(&self) -> Result<Gateways, Failure> {
        let gateways = Gateways {
            name: "mesh".to_owned(),
            entry: self.alice.addresses.internal,
            pids: [pid(self.alice.envoy.as_ref())?, pid(self.bob.envoy.as_ref())?],
            _processes: Vec::new(),
        };
        gateways.pin().await
    }

    /// Starts two Envoys with static configurations, which lead to the same service; `program` takes Envoy's place, if
    /// there is one.
    pub(crate) async fn start_gateways(
        &self,
        program: Option<&Path>,
        name: &str,
        configs: impl Fn(&Places) -> Result<[Value; 2], Failure>,
    ) -> Result<Gateways, Failure> {
        let at = Places {
            entry: harness::free_address()?,
            between: harness::free_address()?,
            service: self.service.0,
        };
        let folder = self.folder.path().join(at.entry.port().to_string());
        std::fs::create_dir_all(&folder)?;
        let [first, second] = configs(&at)?;
        let program = program.unwrap_or(&self.envoy);
        let first = start_static(program, &folder, "first", first).await?;
        let second = start_static(program, &folder, "second", second).await?;
        let pids = [pid(Some(&first))?, pid(Some(&second))?];
        let processes = vec![first, second];
        Gateways { name: name.to_owned(), entry: at.entry, pids, _processes: processes }.pin().await
    }

    /// Bob lets this many sources in, alice among them.
    pub(crate) async fn let_in(&self, sources: usize) -> Result<(), Failure> {
        let others = 1..sources;
        let Some(last) = others.clone().last() else { return Ok(()) };
        let routes: Vec<_> = others.map(|number| self.route_from(&source(number))).collect();
        self.bob.apply("sources.json", &json!({"apiVersion": "v1", "kind": "List", "items": routes})).await?;
        let headers: HeaderMap =
            [("kuscia-host", "kuscia-datapath.bob.svc".to_owned()), ("kuscia-source", source(last))]
                .into_iter()
                .map(|(name, value)| Ok((HeaderName::from_static(name), HeaderValue::try_from(value)?)))
                .collect::<Result<_, Failure>>()?;
        until(async || Ok(self.bob.call_from_outside("/", headers.clone()).await?.status() == 200)).await?;
        let admin = Target::Tcp(self.bob.addresses.envoy_admin);
        until(async || {
            let statistics = ask(&admin, "/stats?filter=active_scopes").await?;
            let statistics = String::from_utf8_lossy(&statistics);
            let mut scopes = statistics.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok());
            Ok(scopes.any(|scopes: usize| scopes >= sources))
        })
        .await?;
        let processes = [pid(self.bob.envoy.as_ref())?, pid(self.bob.mesh.as_ref())?];
        let spent = || processes.into_iter().map(process::cpu).sum::<Result<Duration, Failure>>();
        until(async || {
            let before = spent()?;
            sleep(LOOK).await;
            Ok(spent()? - before < REST)
        })
        .await
    }

    /// A domain that need not prove itself, and that is not there.
    fn route_from(&self, source: &str) -> Value {
        let mut route = self.alice.route_to(&self.bob);
        route["metadata"]["name"] = format!("{source}-bob").into();
        let spec = &mut route["spec"];
        spec["source"] = source.into();
        spec["authenticationType"] = "None".into();
        spec["tokenConfig"] = Value::Null;
        route
    }

    /// What the Envoys of alice and bob have been told.
    pub(crate) async fn dumps(&self) -> Result<Dumps, Failure> {
        let config = async |domain: &Domain| {
            let admin = Target::Tcp(domain.addresses.envoy_admin);
            let dump = ask(&admin, "/config_dump?include_eds").await?;
            Ok::<Value, Failure>(serde_json::from_slice(&dump)?)
        };
        let at = Places {
            entry: self.alice.addresses.internal,
            between: self.bob.addresses.external,
            service: self.service.0,
        };
        Ok(Dumps { at, configs: [config(&self.alice).await?, config(&self.bob).await?] })
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        self.alice.stop().await?;
        self.bob.stop().await?;
        Ok(())
    }
}

fn source(number: usize) -> String {
    format!("source-{number}")
}

fn pid(process: Option<&Child>) -> Result<u32, Failure> {
    process.and_then(Child::pid).ok_or_else(|| "a process has ended".into())
}

async fn until(is_so: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let so = timeout(PATIENCE, async {
        while !is_so().await? {
            sleep(POLL).await;
        }
        Ok(())
    });
    so.await.map_err(|_| format!("it is not so within {PATIENCE:?}"))?
}
