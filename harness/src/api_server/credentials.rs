//! How the API server and its clients prove themselves to each other.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::Error;

/// Names of the server besides its address.
const NAMES: [&str; 4] =
    ["localhost", "kubernetes", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Most bytes read of an answer.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What the server needs to be known by its clients, and the other way round.
pub(super) struct Credentials {
    folder: PathBuf,
    ca: String,
    admin_token: String,
    tls: TlsConnector,
}

impl Credentials {
    /// Makes a CA, a certificate for the server at `ip`, a key that signs the tokens of service accounts, and the token
    /// of an administrator, and writes into `folder` what the server reads.
    pub(super) fn new(folder: &Path, ip: IpAddr) -> Result<Self, Error> {
        let ca = CertifiedIssuer::self_signed(ca_params(), KeyPair::generate()?)?;
        let server_key = KeyPair::generate()?;
        let server = server_params(ip)?.signed_by(&server_key, &ca)?;
        let accounts_key = KeyPair::generate()?;
        let admin_token = random_token()?;

        let write = |name, content: &str| write_secret(&folder.join(name), content);
        write("server.crt", &server.pem())?;
        write("server.key", &server_key.serialize_pem())?;
        write("accounts.pub", &accounts_key.public_key_pem())?;
        write("accounts.key", &accounts_key.serialize_pem())?;
        write("tokens.csv", &format!("{admin_token},admin,admin,system:masters\n"))?;

        let tls = connector(ca.der())?;
        Ok(Self { folder: folder.into(), ca: ca.pem(), admin_token, tls })
    }

    /// The token of somebody who may do everything.
    pub(super) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The flags by which kube-apiserver finds the files.
    pub(super) fn flags(&self) -> [String; 6] {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.folder.join(file).display());
        [
            flag("tls-cert-file", "server.crt"),
            flag("tls-private-key-file", "server.key"),
            flag("service-account-key-file", "accounts.pub"),
            flag("service-account-signing-key-file", "accounts.key"),
            flag("token-auth-file", "tokens.csv"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        ]
    }

    /// Writes `NAME.kubeconfig` for the server at `url`, and returns its path.
    pub(super) fn write_kubeconfig(&self, url: &str, name: &str, token: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        // YAML is a superset of JSON.
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(&self.ca)},
            }],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}}],
            "current-context": name,
        });
        write_secret(&path, &format!("{content:#}\n"))?;
        Ok(path)
    }

    /// Asks the server whether it is ready.
    pub(super) async fn ask_ready(&self, server: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(server).await?;
        let mut stream = self.tls.connect(ServerName::from(server.ip()), stream).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().unwrap_or_default();
        if status.contains(" 200 ") { Ok(()) } else { Err(io::Error::other(format!("answers {status}"))) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn server_params(ip: IpAddr) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.subject_alt_names.extend([ip, IpAddr::from([127, 0, 0, 1])].map(SanType::IpAddress));
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// 128 random bits in hexadecimal.
fn random_token() -> Result<String, rcgen::Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn connector(ca: &CertificateDer<'static>) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn write_secret(path: &Path, content: &str) -> Result<(), Error> {
    let write = || {
        // A file keeps the mode that it was made with.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes())
    };
    write().map_err(|error| Error::Write { path: path.into(), error })
}
