//! The API server that all scenes share. Each of their domains has a namespace of its own there.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::api_server::ApiServer;
use networkmesh::harness::cluster::{Cluster, Namespace};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// The API server and the lock of its folder. Both end with the process.
struct Shared {
    server: ApiServer,
    _lock: File,
}

/// A new namespace for a domain, called otherwise than the domain.
pub(crate) async fn namespace(domain: &str) -> Namespace {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    static SHARED: OnceCell<Shared> = OnceCell::const_new();

    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cluster = connect(&SHARED.get_or_init(start).await.server).await;
    let namespace = cluster.namespace(&format!("{domain}-{number}")).await;
    namespace.unwrap_or_else(|error| panic!("{error}"))
}

/// The turn of a scene that writes objects of no namespace, which all scenes see: no other one writes such until the
/// guard is dropped.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

async fn start() -> Shared {
    // Nothing drops what is static, so the data of the last run are still there.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    let lock = File::create(folder.with_extension("lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let server = ApiServer::start(&folder, &|_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    let defined = connect(&server).await.define_kinds().await;
    defined.unwrap_or_else(|error| panic!("{error}"));
    Shared { server, _lock: lock }
}

async fn connect(server: &ApiServer) -> Cluster {
    Cluster::connect(server.kubeconfig()).await.unwrap_or_else(|error| panic!("{error}"))
}
