//! The way to the API server.

use std::env;
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapErr;

use super::KubernetesSettings;
use crate::source::SourceError;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nothing may come over a connection that waits for something. A watch hears a bookmark about once a minute
/// if nothing else; where a server sends none, the watch goes on over a new connection, from where it was.
const READ_TIMEOUT: Duration = Duration::from_secs(95);

/// When the other end of a silent connection is asked whether it is there, and how often it is then asked again.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// How long the other end may take to acknowledge what was sent.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);

/// An API server.
pub(super) struct Server {
    /// Its client. It retries nothing by itself.
    pub(super) client: Client,
    /// Its address.
    pub(super) url: String,
}

/// Finds the API server.
pub(super) async fn connect(settings: &KubernetesSettings) -> Result<Server, SourceError> {
    let config = find(settings).await?;
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = client(&config).map_err(|cause| SourceError::Credentials {
        server: url.clone(),
        cause: controller::in_words(&cause),
    })?;
    Ok(Server { client, url })
}

async fn find(settings: &KubernetesSettings) -> Result<Config, SourceError> {
    let KubernetesSettings { kubeconfig: path, context, .. } = settings;
    let runs_in_a_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if path.is_none() && context.is_none() && runs_in_a_pod {
        return Config::incluster().map_err(SourceError::ServiceAccount);
    }
    let broken =
        |cause: KubeconfigError| SourceError::Kubeconfig { path: path.clone(), cause: in_words(&cause) };
    let kubeconfig = match path {
        Some(path) => Kubeconfig::read_from(path).map_err(broken)?,
        None => Kubeconfig::read().map_err(|cause| match cause {
            KubeconfigError::FindPath => SourceError::NoApiServer(in_words(&cause)),
            KubeconfigError::ReadConfig(..) if context.is_none() => {
                SourceError::NoApiServer(in_words(&cause))
            }
            cause => broken(cause),
        })?,
    };
    let proxies: Vec<String> = kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .filter(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()))
        .filter_map(|cluster| cluster.server.clone())
        .collect();
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(broken)?;
    // What the environment says of proxies is meant for the outside, not for the cluster.
    let is_proxied =
        |server: &String| server.parse().is_ok_and(|server: http::Uri| server == config.cluster_url);
    match proxies.into_iter().find(is_proxied) {
        Some(server) => Err(SourceError::Proxy(server)),
        None => Ok(config),
    }
}

/// What is wrong with a kubeconfig, without a line of it: that may be secret.
fn in_words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let place =
                error.location().map(|place| format!(" at line {} column {}", place.line(), place.column()));
            format!("it is no YAML of a kubeconfig{}", place.unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// As `kube` makes it, but without its own retries and its log of every failure, and sure to notice when the other end
/// is gone.
fn client(config: &Config) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let (idle, interval, retries) = KEEPALIVE;
    tcp.set_keepalive(Some(idle));
    tcp.set_keepalive_interval(Some(interval));
    tcp.set_keepalive_retries(Some(retries));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_read_timeout(Some(READ_TIMEOUT));
    connector.set_reset_reader_on_write(true);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let builder = ClientBuilder::new(MapErr::new(http, BoxError::from), config.default_namespace.clone())
        .with_layer(&config.base_uri_layer())
        .with_layer(&config.extra_headers_layer()?);
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).build(),
        None => builder.build(),
    })
}
