//! Section `source`: where the domain's objects come from.

use std::path::{Path, PathBuf};

use model::Problem;

use super::Fields;

/// Section `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of manifests.
    Directory(Directory),
    /// A Kubernetes API server.
    Kubernetes(Kubernetes),
}

/// A folder of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The folder that is watched; absolute.
    pub path: PathBuf,
    /// The folder in which status is kept; absolute.
    pub state: PathBuf,
}

/// A Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// How to reach it; absolute. Where it is left out: as a pod does, or by the user's own file.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig, if not its current one.
    pub context: Option<String>,
    /// The namespace of the domain, if it is not called like the domain.
    pub namespace: Option<String>,
    /// The namespace of the Lease for which controllers compete.
    pub lease_namespace: String,
    /// The folder that keeps Envoy's last configuration; absolute.
    pub state: PathBuf,
}

impl Source {
    pub(super) fn read(fields: &mut Fields, folder: &Path) -> Self {
        // `kubernetes:` with nothing below it is enough within a cluster.
        if !fields.names("kubernetes") {
            return Self::Directory(fields.section("directory", |directory| Directory {
                path: folder.join(directory.text("path").as_deref().unwrap_or("manifests")),
                state: state(directory, folder),
            }));
        }
        let problem = Problem::new("stands beside source.kubernetes", "remove one of the two");
        fields.refuse(&["directory"], &problem);
        Self::Kubernetes(fields.section("kubernetes", |kubernetes| {
            Kubernetes {
                kubeconfig: kubernetes.text("kubeconfig").map(|path| folder.join(path)),
                context: kubernetes.text("context"),
                namespace: kubernetes.parse("namespace", parse_namespace),
                lease_namespace: kubernetes
                    .parse("leaseNamespace", parse_namespace)
                    .unwrap_or_else(|| controller::LEASE_NAMESPACE.to_owned()),
                state: state(kubernetes, folder),
            }
        }))
    }

    /// The folder in which the mesh keeps what must outlive it.
    #[must_use]
    pub fn state(&self) -> &Path {
        match self {
            Self::Directory(directory) => &directory.state,
            Self::Kubernetes(kubernetes) => &kubernetes.state,
        }
    }
}

fn state(fields: &mut Fields, folder: &Path) -> PathBuf {
    folder.join(fields.text("state").as_deref().unwrap_or("state"))
}

fn parse_namespace(text: &str) -> Result<String, Problem> {
    if text.len() > 63 || !is_label(text) {
        let problem = format!("{text:?} is no name of a Kubernetes namespace");
        return Err(Problem::new(problem, "use up to 63 lower-case letters, digits and \"-\""));
    }
    Ok(text.to_owned())
}

/// What Kubernetes calls a DNS subdomain: the name that a Gateway object can have.
pub(super) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(is_inner)
}
