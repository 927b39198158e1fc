//! The xDS server: where it listens, whom it lets in, and what it shows to tools.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use model::{FieldError, Problem};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use xds::{Bound, Cache, Clients, ServeError, Tls, TlsError, TlsSettings};
use zeroize::Zeroizing;

use super::StartError;
use super::bind::{bind_error, create_socket_folder};
use crate::config::{Config, ServerTls, read_pem_file, warn_of_exposed_key};
use crate::dump;
use crate::usage::{Usage, Used};

/// How often the files of certificates are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// The xDS server, ready to serve.
pub(super) struct XdsServer {
    bound: Bound,
    certificates: Option<Certificates>,
}

impl XdsServer {
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let tls = config.xds.tls.clone();
        let certificates = tls.map(Certificates::read).transpose().map_err(StartError::XdsTls)?;
        create_socket_folder("listen.xds", &config.listen.xds)?;
        let bound = xds::bind(&config.listen.xds)
            .map_err(|error| bind_error("listen.xds", &error.address, &error.error))?
            .with_contents(dump::redacted)
            .with_reflection(envoy::descriptors())
            .expect("the descriptors that are built in are complete");
        let bound = match &certificates {
            Some(certificates) => bound.with_tls(certificates.tls.clone()),
            None => bound,
        };
        Ok(Self { bound, certificates })
    }

    /// Serves until `shutdown`, and tells `usage` which tokens let requests in. Needs a multi-threaded runtime.
    pub(super) async fn serve(
        self,
        cache: Cache,
        clients: Clients,
        usage: Usage,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let bound = self.bound.with_access_log(move |entry| {
            if let Some((source, revision)) = envoy::token_used(entry) {
                usage.tell(Used { source, revision });
            }
        });
        let renewal = async {
            match self.certificates {
                Some(certificates) => certificates.keep_fresh().await,
                None => pending().await,
            }
        };
        tokio::select! {
            served = bound.serve(cache, clients, shutdown) => served,
            never = renewal => match never {},
        }
    }
}

/// What the xDS server proves itself with, and knows its clients by; from files that are replaced when they near their
/// end.
struct Certificates {
    files: ServerTls,
    content: Content,
    tls: Tls,
}

/// What stands in the files.
#[derive(PartialEq)]
struct Content {
    certificates: Zeroizing<String>,
    key: Zeroizing<String>,
    client_ca: Zeroizing<String>,
}

impl Certificates {
    fn read(files: ServerTls) -> Result<Self, FieldError> {
        warn_of_exposed_key(&files.key);
        let content = Content::read(&files)?;
        let tls = Tls::new(&content.settings()).map_err(|error| unusable(&error))?;
        Ok(Self { files, content, tls })
    }

    /// Looks at the files once a minute. What they hold then is for new connections. While they cannot be used, as
    /// between the writing of a certificate and of its key, the old content stays in force.
    async fn keep_fresh(mut self) -> Infallible {
        let mut complaint = None;
        loop {
            sleep(LOOK).await;
            match block_in_place(|| self.refresh()) {
                Ok(is_new) => {
                    if is_new {
                        info!(file = %self.files.certificate.display(), "the certificates of the xDS server are replaced");
                    }
                    complaint = None;
                }
                Err(error) => {
                    if complaint.as_ref() != Some(&error) {
                        warn!(%error, "the xDS server goes on with its old certificates");
                    }
                    complaint = Some(error);
                }
            }
        }
    }

    /// Whether there was anything new to take.
    fn refresh(&mut self) -> Result<bool, FieldError> {
        let content = Content::read(&self.files)?;
        if content == self.content {
            return Ok(false);
        }
        self.tls.replace(&content.settings()).map_err(|error| unusable(&error))?;
        self.content = content;
        Ok(true)
    }
}

impl Content {
    fn read(files: &ServerTls) -> Result<Self, FieldError> {
        let read = |field, file| read_pem_file(file).map_err(|problem| field_error(field, problem));
        Ok(Self {
            certificates: read(CERTIFICATES, &files.certificate)?,
            key: read(KEY, &files.key)?,
            client_ca: read(CLIENT_CA, &files.client_ca)?,
        })
    }

    fn settings(&self) -> TlsSettings<'_> {
        TlsSettings {
            certificates: self.certificates.as_bytes(),
            key: self.key.as_bytes(),
            client_ca: self.client_ca.as_bytes(),
        }
    }
}

const CERTIFICATES: &str = "xds.tls.certificateFile";
const KEY: &str = "xds.tls.keyFile";
const CLIENT_CA: &str = "xds.tls.clientCAFile";

fn unusable(error: &TlsError) -> FieldError {
    let (field, remedy) = match error {
        TlsError::Certificates(_) => {
            (CERTIFICATES, "name a PEM file with the mesh's certificate, and those above it")
        }
        TlsError::Key => (KEY, "name a PEM file with the private key of the mesh's certificate"),
        TlsError::ClientCa(_) | TlsError::Verifier(_) => {
            (CLIENT_CA, "name a PEM file with the CAs that sign Envoys' certificates")
        }
        TlsError::Unusable(_) => ("xds.tls", "name a certificate, its own private key, and CAs"),
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    field_error(field, Problem::new(format!("{error}{cause}"), remedy))
}

fn field_error(path: &str, Problem { problem, remedy }: Problem) -> FieldError {
    FieldError { path: path.to_owned(), problem, remedy }
}

#[cfg(test)]
mod tests;
