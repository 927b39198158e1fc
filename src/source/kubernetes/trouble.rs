//! What an error of the API server means, and what to do about it.

use std::error::Error as StdError;
use std::io;

use controller::{causes, in_words};
use kube::client::AuthError;
use kube::core::Status;
use kube::runtime::watcher;
use model::{Kind, quoted};

use super::raw::resource;
use crate::source::Severity;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Whom it concerns.
    pub(super) scope: Scope,
    /// How bad it is.
    pub(super) severity: Severity,
    /// What is wrong.
    pub(super) what: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// Whom a trouble concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything that is asked of the API server.
    Server,
    /// Only what was just asked.
    Part,
}

/// What was asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// All objects of a kind, and their changes.
    Objects(Kind),
    /// To store the statuses of routes.
    Statuses,
    /// To store Kubernetes Events.
    Events,
}

/// What the failure of a watch asks for.
#[derive(Debug)]
pub(super) enum WatchFailure {
    /// The server no longer knows what came after the version that was read last: all has to be read again.
    Expired,
    /// The server does not take these options: it may know no streaming lists.
    Refused(Trouble),
    /// Waiting, and trying again.
    Trouble(Trouble),
}

impl WatchFailure {
    /// What `error` of the watch of `kind` means.
    pub(super) fn of(error: &watcher::Error, kind: Kind) -> Self {
        let error = match error {
            watcher::Error::WatchError(status) if status.code == 410 => return Self::Expired,
            watcher::Error::WatchError(status) => {
                return Self::Trouble(Trouble::of_status(status, Part::Objects(kind)));
            }
            watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410 => {
                return Self::Expired;
            }
            watcher::Error::WatchStartFailed(kube::Error::Api(status))
                if matches!(status.code, 400 | 422) =>
            {
                return Self::Refused(Trouble::of_status(status, Part::Objects(kind)));
            }
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            watcher::Error::NoResourceVersion => {
                return Self::Trouble(Trouble::no_api_server("its objects have no versions"));
            }
        };
        Self::Trouble(Trouble::of(error, Part::Objects(kind)))
    }
}

impl Trouble {
    /// What `error` means for what was asked.
    pub(super) fn of(error: &kube::Error, part: Part) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status, part),
            kube::Error::Service(cause) => Self::of_connection(cause.as_ref()),
            kube::Error::HyperError(cause) => Self::of_connection(cause),
            kube::Error::ReadEvents(cause) => Self::of_connection(cause),
            kube::Error::Auth(cause) => Self::of_connection(cause),
            // What it did not understand may be secret.
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
                Self::no_api_server("its answer cannot be understood")
            }
            other => Self::server(in_words(other), "see what answers at this address"),
        }
    }

    /// Nothing came back in time.
    pub(super) fn silence() -> Self {
        Self::server(
            "it accepts connections, but does not answer in time",
            "see whether the API server is overloaded",
        )
    }

    fn of_status(status: &Status, part: Part) -> Self {
        let (code, message) = (status.code, quoted(&status.message));
        match (code, part) {
            (401, _) => Self::server(
                format!("it does not accept the credentials (401 {message})"),
                "renew the token or the certificate; token files are read again each minute, everything else in a \
                 kubeconfig after a restart of networkmesh",
            ),
            (403, Part::Objects(Kind::Domain)) => Self {
                severity: Severity::Warning,
                ..Self::part(
                    format!("they may not be listed and watched, so nothing is known of Domains ({message})"),
                    "apply deploy/rbac/sidecar-domains.yaml (ClusterRole networkmesh-sidecar), or ignore this where \
                     the routes have all keys and certificates",
                )
            },
            (403, Part::Objects(_)) => Self::part(
                format!("they may not be listed and watched ({message})"),
                "apply deploy/rbac/sidecar.yaml with the name of this domain",
            ),
            (403, Part::Statuses) => Self::part(
                format!("they may not be written ({message})"),
                "apply deploy/rbac/sidecar.yaml with the name of this domain",
            ),
            (403, Part::Events) => Self {
                severity: Severity::Warning,
                ..Self::part(
                    format!("they may not be written ({message})"),
                    "apply deploy/rbac/sidecar.yaml with the name of this domain; nothing else depends on it",
                )
            },
            (404, Part::Objects(kind)) if resource(kind).group == "kuscia.secretflow" => Self::part(
                "the API server does not know this kind".to_owned(),
                "run `networkmesh crds | kubectl apply -f -`",
            ),
            (404, Part::Objects(_)) => {
                Self::no_api_server("it does not know a kind that every API server knows")
            }
            (429 | 500.., _) => {
                Self::server(format!("it answers {code} {message}"), "see its log, and that of its etcd")
            }
            (_, _) => Self::part(format!("the API server answers {code} {message}"), "see its log"),
        }
    }

    fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        const NETWORK: &str = "see whether the API server runs, and whether a firewall is in between";
        let words = in_words(error);
        if causes(error).any(<dyn StdError>::is::<AuthError>) {
            return Self::server(
                format!("there are no credentials for it: {words}"),
                "mend the user in the kubeconfig, or the pod's service account",
            );
        }
        let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
        if words.contains("certificate") {
            return Self::server(
                format!("its certificate, or this gateway's, is not trusted: {words}"),
                "put the CA of the API server into the kubeconfig (certificate-authority), and see whether \
                 certificates have expired",
            );
        }
        if words.contains("dns error") {
            return Self::server(
                format!("its name cannot be resolved: {words}"),
                "check its name, and the DNS of this machine",
            );
        }
        let what = match kind {
            Some(io::ErrorKind::ConnectionRefused) => "nothing listens there (connection refused)".to_owned(),
            Some(io::ErrorKind::TimedOut) => "it does not answer in time".to_owned(),
            Some(
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof,
            ) => "it closes connections at once".to_owned(),
            _ => words,
        };
        Self::server(what, NETWORK)
    }

    fn no_api_server(what: &str) -> Self {
        Self::server(what.to_owned(), "see whether a Kubernetes API server answers at this address")
    }

    fn server(what: impl Into<String>, remedy: &str) -> Self {
        Self { scope: Scope::Server, severity: Severity::Error, what: what.into(), remedy: remedy.to_owned() }
    }

    fn part(what: String, remedy: &str) -> Self {
        Self { scope: Scope::Part, severity: Severity::Error, what, remedy: remedy.to_owned() }
    }
}
