use std::fs;
use std::path::Path;

use harness::free_address;
use serde_json::json;
use tempfile::TempDir;
use xds::ResourceType;

use super::*;

/// A mesh in a folder of its own.
struct Mesh {
    folder: TempDir,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Mesh {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("manifests")).expect("a folder");
        let file = folder.path().join("networkmesh.yaml");
        let address = || free_address().expect("a free address");
        let config = json!({
            "domainID": "alice",
            "domainKeyData": *DomainKey::generate().expect("a key").to_domain_key_data(),
            "protocol": "TLS",
            "listen": {
                "external": address(), "internal": address(), "handshake": address(), "dns": address(),
                "admin": "unix:admin.sock", "xds": "unix:xds.sock",
            },
        });
        fs::write(&file, config.to_string()).expect("a file");
        let app = App::build(Config::load(&file).expect("is right")).await.expect("binds");
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(shutdown.clone()));
        Self { folder, shutdown, running }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn until_ready(&self) {
        let socket = crate::http::Target::Unix(self.path("admin.sock"));
        let ready = async || {
            let ask = ::http::Request::get("/readyz").body(bytes::Bytes::new()).expect("a request");
            crate::http::send(&socket, ask, crate::http::Limits::default())
                .await
                .map(|answer| answer.status())
        };
        while !ready().await.is_ok_and(|status| status == 200) {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        let ended = timeout(DRAIN / 2, self.running).await.expect("no part holds it up");
        ended.expect("does not panic").expect("no part failed");
        self.folder
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_ends_without_a_delay_whenever_it_is_told_to() {
    for loads in [false, true] {
        let mesh = Mesh::start().await;
        if loads {
            mesh.until_ready().await;
        }
        let folder = mesh.stop().await;
        let is_left = |socket: &str| folder.path().join(socket).exists();
        assert!(!is_left("admin.sock") && !is_left("xds.sock"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_with_what_the_last_one_has_told_envoy() {
    let mesh = Mesh::start().await;
    mesh.until_ready().await;
    let folder = mesh.stop().await;
    let file = folder.path().join("state/envoy");
    let begun_with = |file: &Path| {
        let cache = Cache::new();
        begin_with_last_state(&cache, &Store::open(file));
        cache.state()
    };
    let state = begun_with(&file);
    assert!(state.is_restored());
    assert!(state.resource(ResourceType::Listener, "internal-listener").is_some());
    assert!(state.resource(ResourceType::Secret, "external-server").is_some());

    let mut damaged = fs::read(&file).expect("the file");
    damaged.pop();
    fs::write(&file, damaged).expect("it is writable");
    assert!(!begun_with(&file).is_loaded(), "a damaged state is worse than none");
    assert!(!begun_with(&folder.path().join("nothing")).is_loaded());
}
