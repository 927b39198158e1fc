//! Why sources cannot start.

use std::io;
use std::path::PathBuf;

use kube::config::InClusterError;

/// Why a source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder of manifests is missing, or cannot be read.
    #[error("cannot read the folder of manifests {}: {cause}; create it, or name another one as \
             source.directory.path", path.display())]
    Manifests {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// The state folder, or a file of it, cannot be used.
    #[error("cannot use {} of the state folder: {cause}; let this user read and write it, or name another folder as \
             source.directory.state or source.kubernetes.state", path.display())]
    State {
        /// The folder or file.
        path: PathBuf,
        /// What went wrong.
        cause: io::Error,
    },
    /// Another mesh uses the state folder.
    #[error("another mesh uses the state folder {}; stop it, or name another folder as source.directory.state",
            .0.display())]
    Locked(PathBuf),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig{}: {cause}; name a good one as source.kubernetes.kubeconfig, or run \
             `kubectl config view` to see what is wrong", path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Kubeconfig {
        /// The file, where one is configured; otherwise it is the default one.
        path: Option<PathBuf>,
        /// What went wrong.
        cause: String,
    },
    /// The mesh runs in a pod whose credentials for the API server cannot be used.
    #[error(
        "cannot use the pod's service account: {0}; let the pod have one (automountServiceAccountToken), or \
             name a kubeconfig as source.kubernetes.kubeconfig"
    )]
    ServiceAccount(InClusterError),
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "there is no way to a Kubernetes API server: no pod's service account, and no kubeconfig ({0}); name one \
             as source.kubernetes.kubeconfig"
    )]
    NoApiServer(String),
    /// The API server is to be reached through a proxy.
    #[error(
        "the kubeconfig names a proxy for {0}, which is not supported; use a kubeconfig that reaches the API \
             server directly"
    )]
    Proxy(String),
    /// The credentials or certificates for the API server cannot be used.
    #[error("cannot use the credentials for the API server {server}: {cause}; mend them in the kubeconfig")]
    Credentials {
        /// Its address.
        server: String,
        /// What went wrong.
        cause: String,
    },
}
