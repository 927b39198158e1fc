//! The floor: a program that keeps the same objects in kube's own stores, and does nothing with them.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, future};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use model::api::DomainRoute;
use networkmesh::harness::cluster::Cluster;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::world::DOMAIN;
use crate::{Failure, common::process::resident_megabytes};

/// What this program is called with to be that program.
pub(crate) const COMMAND: &str = "reflect";

/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(3);

/// What keeping the objects costs.
pub(crate) struct Floor {
    /// From the start of the process until everything is read.
    pub(crate) ready: Duration,
    pub(crate) megabytes: f64,
}

/// Measures the floor in a process of its own.
pub(crate) async fn measure(kubeconfig: &Path) -> Result<Floor, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(COMMAND).arg(kubeconfig).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let started = Instant::now();
    let mut process = command.spawn()?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line).await?;
    if line.trim() != "ready" {
        return Err("the stores cannot be filled".into());
    }
    let ready = started.elapsed();
    tokio::time::sleep(SETTLE).await;
    let megabytes = resident_megabytes(process.id().ok_or("the stores are gone")?)?;
    process.kill().await?;
    Ok(Floor { ready, megabytes })
}

/// Says when it has read everything, and keeps it until it is killed.
pub(crate) async fn run(kubeconfig: &Path) -> Result<(), Failure> {
    let client = Cluster::connect(kubeconfig).await?.client();
    let (first, second, third, fourth) = tokio::join!(
        keep::<Service>(&client),
        keep::<Endpoints>(&client),
        keep::<EndpointSlice>(&client),
        keep::<DomainRoute>(&client),
    );
    let _stores = (first?, second?, third?, fourth?);
    println!("ready");
    future::pending().await
}

async fn keep<K>(client: &Client) -> Result<reflector::Store<K>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let objects =
        watcher(Api::<K>::namespaced(client.clone(), DOMAIN), watcher::Config::default().streaming_lists());
    // As kube's documentation advises.
    let objects = objects.map_ok(|event| event.modify(|object| object.managed_fields_mut().clear()));
    tokio::spawn(reflector(writer, objects).default_backoff().for_each(|_| future::ready(())));
    store.wait_until_ready().await?;
    Ok(store)
}
