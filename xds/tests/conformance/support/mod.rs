//! What every test needs: the server, its clients, and something to send.

pub(crate) mod envoy;
pub(crate) mod filters;
pub(crate) mod resources;
pub(crate) mod server;
pub(crate) mod upstream;
pub(crate) mod world;

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Longer than anything takes on a busy machine: reached only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// Asks until the answer is as wanted.
pub(crate) async fn eventually<T: Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    is_wanted: impl Fn(&T) -> bool,
) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask().await;
        if is_wanted(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}, but it is {answer:?}");
        sleep(POLL).await;
    }
}
