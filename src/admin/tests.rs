use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use certs::DomainKey;
use futures_util::future::join_all;
use model::Snapshot;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use xds::{ListenAddress, Listener};

use crate::app::Identity;
use crate::handshake::Outcomes;
use crate::http::{Limits, Target, send};
use crate::names::States;
use crate::program::tests::{certificates, translator};
use crate::program::{Gateways, Lingering};
use crate::replicas::Replicas;
use crate::source::{SourceKind, SourceReport};
use crate::status::{Complaints, DnsObserver, Observer, Status};

/// The admin interface of a mesh that knows nothing yet.
struct Interface {
    target: Target,
    gateways: Gateways,
    _stop: DropGuard,
}

impl Interface {
    fn start(address: &str) -> Self {
        Self::with_dns(address, SocketAddr::from(([127, 0, 0, 1], 53)))
    }

    fn with_dns(address: &str, dns: SocketAddr) -> Self {
        let listener = Listener::bind(&address.parse().expect("an address")).expect("is free");
        let target = match listener.address().expect("is bound") {
            ListenAddress::Tcp(address) => Target::Tcp(address),
            ListenAddress::Unix(path) => Target::Unix(path),
        };
        let domain: model::DomainId = "alice".parse().expect("a domain ID");
        // Without their senders, the receivers keep what they have.
        let (gateways, _) = Gateways::new(Arc::new(Snapshot::empty(domain.clone())));
        let (_, source) = watch::channel(SourceReport::new(SourceKind::Directory));
        let key = DomainKey::generate().expect("a key");
        let identity = Identity { domain: domain.clone(), key, instance: "gateway".to_owned() };
        let client_certificate = certificates(&identity).client;
        let observer = Observer {
            translator: translator(&domain),
            identity,
            source,
            gateways: gateways.clone(),
            replicas: Replicas::alone("gateway".to_owned()),
            complaints: Complaints::default(),
            dns: DnsObserver {
                address: dns,
                recursion: dns::Recursion::default(),
                is_protected: false,
                names: dns::Names::new(&dns::ZoneSettings {
                    domain: domain.clone(),
                    gateway: vec![[127, 0, 0, 1].into()],
                    gateway_port: 80,
                    ttl: dns::DEFAULT_TTL,
                }),
                metrics: Arc::default(),
                queries: dns::QueryLog::default(),
            },
            names: States::new(translator(&domain), gateways.clone(), Lingering::new(dns::DEFAULT_TTL)),
            handshakes: Outcomes::default(),
            certificate: None,
            client_certificate,
        };
        let stop = CancellationToken::new();
        tokio::spawn(super::serve(listener, observer, stop.clone()));
        Self { target, gateways, _stop: stop.drop_guard() }
    }

    fn tcp() -> Self {
        Self::start("127.0.0.1:0")
    }

    fn unix(folder: &Path) -> Self {
        Self::start(&format!("unix:{}", folder.join("admin.sock").display()))
    }

    async fn ask(&self, path: &str, host: Option<&str>) -> Response<Bytes> {
        self.ask_with(path, host.map(|host| ("host", host))).await
    }

    async fn ask_with(&self, path: &str, header: Option<(&str, &str)>) -> Response<Bytes> {
        let request =
            header.into_iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        let request = request.body(Bytes::new()).expect("a request");
        send(&self.target, request, Limits::default()).await.expect("an answer")
    }

    async fn status_of(&self, path: &str) -> StatusCode {
        self.ask(path, None).await.status()
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn it_is_alive_at_once_and_ready_once_a_configuration_is_loaded() {
    let mesh = Interface::tcp();
    assert_eq!(mesh.status_of("/livez").await, StatusCode::OK);
    let unready = mesh.ask("/readyz", None).await;
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unready.body(), "no configuration is loaded yet\n");
    mesh.gateways.cache.replace([]);
    assert_eq!(mesh.status_of("/readyz").await, StatusCode::OK);
}

#[tokio::test]
async fn names_that_are_not_ours_are_refused() {
    let mesh = Interface::tcp();
    for host in ["localhost", "localhost:9091", "127.0.0.1", "127.0.0.1:9091", "[::1]:9091", "192.0.2.1"] {
        assert_eq!(mesh.ask("/livez", Some(host)).await.status(), StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9091", "", "a b", "[::1"] {
        for path in ["/livez", "/status", "/dump?secrets=true"] {
            assert_eq!(mesh.ask(path, Some(host)).await.status(), StatusCode::FORBIDDEN, "{host}");
        }
    }
}

#[tokio::test]
async fn pages_of_others_are_refused() {
    let mesh = Interface::tcp();
    for (site, status) in [
        ("none", StatusCode::OK),
        ("same-origin", StatusCode::OK),
        ("same-site", StatusCode::FORBIDDEN),
        ("cross-site", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(mesh.ask_with("/status", Some(("sec-fetch-site", site))).await.status(), status, "{site}");
    }
}

#[tokio::test]
async fn secrets_are_dumped_on_unix_sockets_only() {
    let folder = folder();
    let (tcp, unix) = (Interface::tcp(), Interface::unix(folder.path()));
    let refused = tcp.ask("/dump?secrets=true", None).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(refused.body()).contains("unix:PATH"));
    assert_eq!(tcp.status_of("/dump?secrets=false").await, StatusCode::OK);
    assert_eq!(unix.status_of("/dump?secrets=true").await, StatusCode::OK);
}

#[tokio::test]
async fn dumps_show_the_kinds_that_are_asked_for() {
    let mesh = Interface::tcp();
    let kinds = async |path: &str| -> Vec<String> {
        let dump: Value = serde_json::from_slice(mesh.ask(path, None).await.body()).expect("JSON");
        dump.as_object().expect("an object").keys().cloned().collect()
    };
    let all = ["clusters", "endpoints", "listeners", "routes", "scopes", "secrets"];
    assert_eq!(kinds("/dump").await, all);
    assert_eq!(kinds("/dump?kind=all").await, all);
    for kind in all {
        assert_eq!(kinds(&format!("/dump?kind={kind}")).await, [kind]);
    }
    let zone = mesh.ask("/dump?kind=names", None).await;
    assert!(zone.body().starts_with(b"svc. 5 IN SOA "), "{zone:?}");
    for query in ["kind=everything", "kind=", "secrets=maybe"] {
        assert_eq!(mesh.status_of(&format!("/dump?{query}")).await, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn the_status_reads_back_and_the_metrics_are_open_metrics() {
    let mesh = Interface::tcp();
    let status: Status = serde_json::from_slice(mesh.ask("/status", None).await.body()).expect("a status");
    assert_eq!((status.domain.as_str(), status.instance.as_str()), ("alice", "gateway"));
    assert_eq!(status.problems.len(), 2, "nothing is loaded, no Envoy: {:?}", status.problems);

    let metrics = mesh.ask("/metrics", None).await;
    let content_type = metrics.headers()["content-type"].to_str().expect("is text");
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    let text = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(text.contains("networkmesh_ready{} 0\n") && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn names_are_explained() {
    let mesh = Interface::tcp();
    let explanation: Value =
        serde_json::from_slice(mesh.ask("/explain?name=Web.Alice.svc", None).await.body()).expect("JSON");
    assert_eq!((&explanation["name"], &explanation["resolves"]), (&"web.alice.svc.".into(), &false.into()));
    for query in ["", "?name=a..b"] {
        assert_eq!(mesh.status_of(&format!("/explain{query}")).await, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn only_so_many_names_are_explained_at_one_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("is free");
    let mesh = Interface::with_dns("127.0.0.1:0", silent.local_addr().expect("is bound"));
    let explain = || mesh.status_of("/explain?name=example.com");
    let ask_one_more = async {
        let mut connections = Vec::new();
        // Each name is looked up for both families.
        while connections.len() < 2 * super::MAX_EXPLANATIONS {
            connections.push(silent.accept().await.expect("a connection"));
        }
        let status = explain().await;
        drop((connections, silent));
        status
    };
    let waiting = join_all((0..super::MAX_EXPLANATIONS).map(|_| explain()));
    let (one_more, waited) = tokio::join!(ask_one_more, waiting);
    assert_eq!(one_more, StatusCode::SERVICE_UNAVAILABLE);
    assert!(waited.iter().all(|status| *status == StatusCode::OK), "{waited:?}");
    assert_eq!(explain().await, StatusCode::OK);
}
