//! The watch of one kind: it goes on until nobody listens, whatever the API server does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher::{self, InitialListStrategy, watcher};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::{Backoff, spread};
use super::board::Board;
use super::intake::{Intake, NobodyListens};
use super::raw::Raw;
use super::trouble::{Part, Scope, Trouble, WatchFailure};
use crate::source::Severity;

/// How long the next object of a reading may take, and an answer to a small question.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a watch must not fail before it is asked whether it works again.
const QUIET: Duration = Duration::from_secs(1);

/// After how long an outage everything is read again: the API server may have been restored from a backup. It then counts
/// its versions from an earlier one, and would say nothing of a watch that goes on from a later one. No API server starts
/// in so short a time.
const LONG_OUTAGE: Duration = Duration::from_millis(500);

/// How often rights that the mesh can do without have to be refused: a server that starts refuses everybody.
const RIGHTS_TRIES: u32 = 6;

/// When rights that the mesh can do without are asked for again. A slow server may still have refused because it had just
/// started.
const RIGHTS_PAUSE: Duration = Duration::from_secs(20);

/// Feeds `intake` with all objects of `api` and their changes, until nobody listens to what it says.
pub(super) async fn watch(intake: Intake, api: Api<Raw>, board: Arc<Board>) {
    let part = Part::Objects(intake.kind());
    let mut watch = Watch {
        part,
        intake,
        api,
        board,
        strategy: InitialListStrategy::StreamingList,
        backoff: Backoff::default(),
        failing_since: None,
    };
    while watch.follow().await.is_ok() {}
}

struct Watch {
    part: Part,
    intake: Intake,
    api: Api<Raw>,
    board: Arc<Board>,
    strategy: InitialListStrategy,
    backoff: Backoff,
    /// Since when nothing has worked.
    failing_since: Option<Instant>,
}

impl Watch {
    /// Watches until that has to begin anew.
    async fn follow(&mut self) -> Result<(), NobodyListens> {
        let config =
            watcher::Config { initial_list_strategy: self.strategy.clone(), ..watcher::Config::default() };
        let mut stream = pin!(watcher(self.api.clone(), config));
        loop {
            let patience = if self.backoff.failures() > 0 {
                QUIET
            } else if self.intake.is_complete() {
                Duration::MAX
            } else {
                PATIENCE
            };
            match timeout(patience, stream.next()).await {
                Ok(Some(Ok(event))) => {
                    // That is said without having asked the server.
                    if !matches!(event, watcher::Event::Init) && self.works() && self.intake.is_complete() {
                        return Ok(());
                    }
                    self.intake.take(event).await?;
                }
                Ok(Some(Err(error))) => match WatchFailure::of(&error, self.intake.kind()) {
                    WatchFailure::Expired => {
                        tracing::debug!(kind = %self.intake.kind(), %error, "reading all objects again");
                        sleep(self.backoff.fail()).await;
                        return Ok(());
                    }
                    WatchFailure::Refused(_) if self.strategy == InitialListStrategy::StreamingList => {
                        self.strategy = InitialListStrategy::ListWatch;
                        return Ok(());
                    }
                    WatchFailure::Refused(trouble) | WatchFailure::Trouble(trouble) => {
                        self.fail(trouble).await?;
                    }
                },
                Ok(None) => return Ok(()),
                Err(_elapsed) if self.backoff.failures() > 0 => {
                    if self.ask().await? && self.intake.is_complete() {
                        return Ok(());
                    }
                }
                Err(_elapsed) => {
                    // Some servers never say that a streaming list is at its end.
                    self.strategy = InitialListStrategy::ListWatch;
                    self.fail(Trouble::silence()).await?;
                    return Ok(());
                }
            }
        }
    }

    /// A watch that has gone on says nothing before an object changes, so the server is asked something. Answers
    /// whether a long outage is over.
    async fn ask(&mut self) -> Result<bool, NobodyListens> {
        match timeout(PATIENCE, self.api.list(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return Ok(self.works()),
            Ok(Err(error)) => self.fail(Trouble::of(&error, self.part)).await?,
            Err(_elapsed) => self.fail(Trouble::silence()).await?,
        }
        Ok(false)
    }

    /// The server has answered. Answers whether that ends a long outage.
    fn works(&mut self) -> bool {
        if self.backoff.failures() > 0 {
            self.backoff.succeed();
            self.board.works(self.part);
        }
        self.failing_since.take().is_some_and(|since| since.elapsed() >= LONG_OUTAGE)
    }

    async fn fail(&mut self, trouble: Trouble) -> Result<(), NobodyListens> {
        self.failing_since.get_or_insert_with(Instant::now);
        let pause = self.backoff.fail();
        let may_be_missing = trouble.severity == Severity::Warning && self.backoff.failures() >= RIGHTS_TRIES;
        // A server that restarts is not worth a word.
        if trouble.scope == Scope::Part || self.backoff.failures() > 1 {
            self.board.troubled(self.part, trouble);
        }
        if may_be_missing {
            self.intake.go_without().await?;
            sleep(spread(RIGHTS_PAUSE)).await;
        } else {
            sleep(pause).await;
        }
        Ok(())
    }
}
