use std::fs;

use harness::free_address;
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_ends_without_a_delay_whenever_it_is_told_to() {
    for loads in [false, true] {
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
        if loads {
            let socket = crate::http::Target::Unix(folder.path().join("admin.sock"));
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
        shutdown.cancel();
        let ended = timeout(DRAIN / 2, running).await.expect("no part holds it up").expect("does not panic");
        ended.expect("no part failed");
        assert!(!folder.path().join("admin.sock").exists() && !folder.path().join("xds.sock").exists());
    }
}
