//! The sections of `networkmesh.yaml` other than `listen` and `dns`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::DEFAULT_LEAF_LIFETIME;
use envoy::{AccessLog, Tracing, XdsTls};
use ipnet::IpNet;
use model::{Host, HostPort, NameError, Problem};
use xds::ListenAddress;

use super::Fields;
use super::listen::{parse_address, read_address};

/// Section `xds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xds {
    /// TLS with certificates on both sides. There is none on a Unix socket, and always on a TCP port that is not
    /// for this machine alone.
    pub tls: Option<ServerTls>,
}

/// How the mesh proves itself to Envoys, and knows them. All files are PEM, and their paths absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The mesh's certificate, and then those that lead to its root.
    pub certificate: PathBuf,
    /// The private key of that certificate.
    pub key: PathBuf,
    /// The CAs of which one must have signed an Envoy's certificate.
    pub client_ca: PathBuf,
}

impl Xds {
    pub(super) fn read(fields: &mut Fields, folder: &Path) -> Self {
        let tls = fields.optional_section("tls", |tls| ServerTls {
            certificate: tls.file("certificateFile", folder, "name the PEM file of the mesh's certificate"),
            key: tls.file("keyFile", folder, "name the PEM file of that certificate's private key"),
            client_ca: tls.file(
                "clientCAFile",
                folder,
                "name the PEM file of the CAs that sign Envoys' certificates",
            ),
        });
        Self { tls }
    }
}

/// The part of the requests that is traced unless configured, in percent.
const DEFAULT_SAMPLING: f64 = 1.0;

/// Section `envoy`: how the mesh's Envoy is set up.
#[derive(Clone, Debug)]
pub struct Envoy {
    /// Where Envoy's own administration interface listens.
    pub admin: ListenAddress,
    /// How Envoy proves itself to the mesh and knows it, if the mesh asks for that.
    pub xds_tls: Option<XdsTls>,
    /// Where Envoy writes its access logs.
    pub access_log: AccessLog,
    /// Proxies that are believed what they say of their clients' addresses.
    pub trusted_proxies: Vec<IpNet>,
    /// Where and of what Envoy tells by OpenTelemetry.
    pub tracing: Option<Tracing>,
}

impl Envoy {
    pub(super) fn read(fields: &mut Fields, xds: &Xds, folder: &Path) -> Self {
        let xds_tls = if xds.tls.is_some() {
            fields.section("xdsTLS", |tls| read_xds_tls(tls, folder))
        } else {
            let problem = Problem::new("has no use without xds.tls", "give xds.tls too, or remove this");
            fields.refuse(&["xdsTLS"], &problem);
            None
        };
        let access_log = fields.text("accessLog").map(|text| match text.as_str() {
            "stdout" => AccessLog::Stdout,
            "off" => AccessLog::Off,
            path => AccessLog::Directory(folder.join(path)),
        });
        Self {
            admin: read_address(fields, "admin", "127.0.0.1:9901", |text| parse_address(text, folder)),
            xds_tls,
            access_log: access_log.unwrap_or(AccessLog::Stdout),
            trusted_proxies: fields.list("trustedProxies", parse_network).unwrap_or_default(),
            tracing: fields.optional_section("tracing", read_tracing).flatten(),
        }
    }
}

fn read_tracing(fields: &mut Fields) -> Option<Tracing> {
    fields.require("collector", "give the collector's address, such as http://127.0.0.1:4317");
    let collector = fields.parse("collector", parse_collector);
    let sampling = fields.percentage("samplingPercent").unwrap_or(DEFAULT_SAMPLING);
    Some(Tracing { collector: collector?, sampling })
}

/// `http://host:port`: Envoy speaks OTLP over gRPC without TLS.
fn parse_collector(text: &str) -> Result<HostPort, Problem> {
    let collector = || {
        let uri: ::http::Uri = text.parse().ok()?;
        let is_plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        let is_place = is_plain && !uri.authority()?.as_str().contains('@');
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        let port = uri.port_u16().filter(|port| is_place && *port != 0)?;
        Some(HostPort { host, port })
    };
    collector().ok_or_else(|| {
        let problem = format!("{text:?} is not the address of an OpenTelemetry collector");
        Problem::new(problem, "write it as http://HOST:PORT, with the collector's port for gRPC, often 4317")
    })
}

fn read_xds_tls(fields: &mut Fields, folder: &Path) -> Option<XdsTls> {
    let certificate = fields.file("certificateFile", folder, "name the PEM file of Envoy's certificate");
    let key = fields.file("keyFile", folder, "name the PEM file of that certificate's private key");
    let ca = fields.file(
        "caFile",
        folder,
        "name the PEM file of the CAs of which one signed the mesh's certificate",
    );
    fields.require("serverName", "give a name or address that the mesh's certificate is for");
    let server_name = fields.parse("serverName", str::parse::<Host>)?;
    Some(XdsTls { certificate, key, ca, server_name })
}

/// Section `certificates`: the leaves of the TLS listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// DNS names, also `*.example.com`, and IP addresses under which partners reach this domain.
    pub hosts: Vec<String>,
    /// For how long a leaf is valid.
    pub lifetime: Duration,
}

impl Certificates {
    pub(super) fn read(fields: &mut Fields) -> Self {
        let days = |days: u32| Duration::from_hours(24 * u64::from(days));
        Self {
            hosts: fields.list("hosts", parse_certificate_host).unwrap_or_default(),
            lifetime: fields.number("lifetimeDays", 1..=3652).map_or(DEFAULT_LEAF_LIFETIME, days),
        }
    }
}

/// A network in CIDR notation, or one address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Problem> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        Problem::new(format!("{text:?} is not a network"), "write it as 10.0.0.0/8 or 2001:db8::/32")
    })
}

fn parse_certificate_host(text: &str) -> Result<String, NameError> {
    text.strip_prefix("*.").unwrap_or(text).parse::<Host>()?;
    Ok(text.to_owned())
}
