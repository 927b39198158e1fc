use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use networkmesh_xds::{
    Cache, ListenAddress, Node, Peer, ResourceType::Listener, Tls, TlsError, TlsSettings, bind,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::{
    codegen::{Service, http::Uri},
    transport::Endpoint,
};

use crate::support::{DeltaClient, Result, Server, hello, set};

/// Whoever signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &self.0)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    fn settings<'a>(&'a self, client_ca: &'a str) -> TlsSettings<'a> {
        TlsSettings {
            certificates: self.certificate.as_bytes(),
            key: self.key.as_bytes(),
            client_ca: client_ca.as_bytes(),
        }
    }
}

/// Connects by TLS.
#[derive(Clone)]
struct Connect {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Connect {
    fn new(address: &ListenAddress, ca: &Authority, identity: Option<&Identity>) -> Result<Self> {
        Self::with_versions(address, ca, identity, &[&TLS13, &TLS12])
    }

    fn with_versions(
        address: &ListenAddress,
        ca: &Authority,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self> {
        let ListenAddress::Tcp(address) = *address else { return Err("TLS is for TCP".into()) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes())?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address, config: Arc::new(config) })
    }

    async fn stream(self) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
        TlsConnector::from(self.config).connect(name, TcpStream::connect(self.address).await?).await
    }

    async fn client(&self) -> Result<DeltaClient> {
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(self.clone()).await?;
        DeltaClient::open_on(channel).await
    }

    /// Whether the server lets this client in.
    async fn is_let_in(&self) -> bool {
        let Ok(mut stream) = self.clone().stream().await else { return false };
        // In TLS 1.3 the client hears of a refusal only when it reads.
        stream.read_u8().await.is_ok()
    }
}

impl Service<Uri> for Connect {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.stream().await.map(TokioIo::new) })
    }
}

#[tokio::test]
async fn clients_with_a_certificate_are_served_and_known_by_it() -> Result {
    let (ca, bound) = (Authority::new()?, bind(&"127.0.0.1:0".parse()?)?);
    let (identity, address) = (ca.sign()?, bound.address().clone());
    let tls = Tls::new(&identity.settings(&ca.pem()))?;
    let client = ca.sign()?;
    let expected = CertificateDer::from_pem_slice(client.certificate.as_bytes())?;
    let cache = Cache::new();
    set(&cache, Listener, "web", "1");
    let views = {
        let cache = cache.clone();
        move |_: &Node, peer: &Peer| match peer {
            Peer::Tls { certificate, .. } if **certificate == *expected => Some(cache.clone()),
            _ => None,
        }
    };
    let _server = Server::start_with(bound.with_tls(tls), views, cache);
    for versions in [&TLS12, &TLS13] {
        let connect = Connect::with_versions(&address, &ca, Some(&client), &[versions])?;
        let mut client = connect.client().await?;
        client.send(hello("alice")).await?;
        assert_eq!(client.receive().await?.resources.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_ca_are_refused() -> Result {
    let (ca, bound) = (Authority::new()?, bind(&"127.0.0.1:0".parse()?)?);
    let (identity, address) = (ca.sign()?, bound.address().clone());
    let _server = Server::start(bound.with_tls(Tls::new(&identity.settings(&ca.pem()))?));
    let stranger = Authority::new()?.sign()?;
    for versions in [&TLS12, &TLS13] {
        let connect = |identity| Connect::with_versions(&address, &ca, identity, &[versions]);
        assert!(!connect(None)?.is_let_in().await);
        assert!(!connect(Some(&stranger))?.is_let_in().await);
        assert!(connect(Some(&ca.sign()?))?.is_let_in().await);
    }
    let ListenAddress::Tcp(address) = address else { return Err("TCP was asked for".into()) };
    let plain = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    assert!(DeltaClient::open_on(plain).await.is_err(), "it speaks no TLS");
    Ok(())
}

#[tokio::test]
async fn renewed_certificates_and_cas_hold_for_new_connections() -> Result {
    let (old, new, bound) = (Authority::new()?, Authority::new()?, bind(&"127.0.0.1:0".parse()?)?);
    let address = bound.address().clone();
    let tls = Tls::new(&old.sign()?.settings(&old.pem()))?;
    let server = Server::start(bound.with_tls(tls.clone()));
    server.set(Listener, "web", "1");
    let mut connected = Connect::new(&address, &old, Some(&old.sign()?))?.client().await?;
    connected.send(hello("alice")).await?;

    assert!(matches!(tls.replace(&old.sign()?.settings("")), Err(TlsError::Verifier(_))));
    let broken = Identity { key: "no key".to_owned(), ..old.sign()? };
    assert!(matches!(tls.replace(&broken.settings(&old.pem())), Err(TlsError::Key)));
    let unfit = Identity { key: old.sign()?.key, ..old.sign()? };
    assert!(matches!(tls.replace(&unfit.settings(&old.pem())), Err(TlsError::Unusable(_))));
    assert!(Connect::new(&address, &old, Some(&old.sign()?))?.is_let_in().await);

    tls.replace(&new.sign()?.settings(&new.pem()))?;
    assert!(Connect::new(&address, &new, Some(&new.sign()?))?.is_let_in().await);
    assert!(!Connect::new(&address, &new, Some(&old.sign()?))?.is_let_in().await);
    assert!(!Connect::new(&address, &old, Some(&old.sign()?))?.is_let_in().await);
    assert_eq!(connected.receive().await?.resources.len(), 1);
    Ok(())
}
