//! Domains on this machine, and what every test asks of them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

mod calls;
mod domains;
mod folder;
mod objects;
mod programs;
mod state;

pub(crate) use calls::{answers, call, echoed, get, hops, nobody_at, resolve};
pub(crate) use domains::{Alone, World};
pub(crate) use folder::Folder;
pub(crate) use objects::{apply_route, external, labelled, set_destination, set_source, set_unauthenticated};
pub(crate) use programs::{PROGRAM, Ran, admin, envoy, networkmesh, run};
pub(crate) use state::{confirmed_revision, key_of, refused, route_status, token};

/// Longer than anything takes on a busy machine: reached only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(25);

/// Where the objects of all domains of a scene live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In folders of manifests.
    Directory,
    /// In namespaces of a Kubernetes API server.
    Kubernetes,
}

/// Makes each of the scenes two tests, one on each source. A scene takes its [`Source`].
macro_rules! scenes {
    ($($scene:ident),+ $(,)?) => { $(
        mod $scene {
            use crate::world::Source;

            #[tokio::test]
            async fn directory() {
                super::$scene(Source::Directory).await;
            }

            #[tokio::test]
            async fn kubernetes() {
                super::$scene(Source::Kubernetes).await;
            }
        }
    )+ };
}

/// Tries until `attempt` succeeds; it says what is missing.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if Instant::now() >= deadline => panic!("not within {DEADLINE:?}: {what}; {last}"),
            Err(_) => sleep(POLL).await,
        }
    }
}
