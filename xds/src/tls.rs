//! TLS for TCP, with certificates on both sides.

use std::{fmt, sync::Arc};

use tokio::sync::watch;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
        server::{VerifierBuilderError, WebPkiClientVerifier},
        version::{TLS12, TLS13},
    },
};

/// The server's identity, and whose clients it accepts; all in PEM.
#[derive(Clone, Copy)]
pub struct TlsSettings<'a> {
    /// The server's certificate, and then those that lead to its root.
    pub certificates: &'a [u8],
    /// The private key of the first certificate.
    pub key: &'a [u8],
    /// The CAs of which one must have signed a client's certificate.
    pub client_ca: &'a [u8],
}

/// TLS 1.2 or 1.3 for a server whose clients must have a certificate too. Copies share it.
#[derive(Clone)]
pub struct Tls(watch::Sender<Arc<ServerConfig>>);

/// The settings are no working identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates are no PEM.
    #[error("the server's certificates cannot be read")]
    Certificates(#[source] pem::Error),
    /// The key is no PEM. The cause is left out, as it may quote the key.
    #[error("the server's private key cannot be read")]
    Key,
    /// The client CAs are no PEM.
    #[error("the client CAs cannot be read")]
    ClientCa(#[source] pem::Error),
    /// There is no usable client CA.
    #[error("the client CAs cannot be used")]
    Verifier(#[from] VerifierBuilderError),
    /// The certificates, the key and the CAs are unusable, or do not fit each other.
    #[error("the certificates cannot be used")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// TLS with these settings.
    pub fn new(settings: &TlsSettings<'_>) -> Result<Self, TlsError> {
        Ok(Self(watch::Sender::new(config(settings)?)))
    }

    /// Takes other settings for the connections to come; keeps the old ones if these are wrong.
    ///
    /// Call it when certificates are renewed. Connections that are open stay open.
    pub fn replace(&self, settings: &TlsSettings<'_>) -> Result<(), TlsError> {
        self.0.send_replace(config(settings)?);
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0.borrow()).into()
    }
}

/// Leaves the key out.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn config(settings: &TlsSettings<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(settings.client_ca) {
        roots.add(root.map_err(TlsError::ClientCa)?)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build()?;
    let chain = CertificateDer::pem_slice_iter(settings.certificates).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(settings.key).map_err(|_| TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.map_err(TlsError::Certificates)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
