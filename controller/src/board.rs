//! What the controller says of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::State;

/// How long a problem is shown that is not heard of again. Everything that fails is tried at least once a minute.
const MEMORY: Duration = Duration::from_secs(90);

/// Keeps the [`State`]. Clones share it.
#[derive(Clone)]
pub(crate) struct Board {
    state: Arc<watch::Sender<State>>,
    problems: Arc<Mutex<BTreeMap<String, Noted>>>,
}

struct Noted {
    text: String,
    at: Instant,
}

impl Board {
    /// A board that publishes to `state`.
    pub(crate) fn new(state: watch::Sender<State>) -> Self {
        Self { state: Arc::new(state), problems: Arc::default() }
    }

    /// Says who leads.
    pub(crate) fn leader(&self, leader: Option<&str>, is_leader: bool) {
        self.state.send_if_modified(|state| {
            let changed = (state.leader.as_deref(), state.is_leader) != (leader, is_leader);
            state.leader = leader.map(str::to_owned);
            state.is_leader = is_leader;
            changed
        });
    }

    /// This candidate is no candidate any more.
    pub(crate) fn leave(&self) {
        self.state.send_modify(|state| state.is_leader = false);
    }

    /// Says what is wrong with `subject`, in place of what was said of it before.
    pub(crate) fn problem(&self, subject: &str, text: String) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = Noted { text, at: Instant::now() };
        if problems.get(subject).is_none_or(|before| before.text != noted.text) {
            warn!("{}", noted.text);
        }
        problems.insert(subject.to_owned(), noted);
        self.publish(&problems);
    }

    /// Nothing is wrong with `subject`.
    pub(crate) fn solved(&self, subject: &str) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.remove(subject).is_some() {
            info!(subject, "a problem is solved");
            self.publish(&problems);
        }
    }

    /// Forgets problems that nobody has met for a while.
    pub(crate) fn forget_old(&self) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.retain(|_, noted| noted.at.elapsed() < MEMORY);
        self.publish(&problems);
    }

    fn publish(&self, problems: &BTreeMap<String, Noted>) {
        let texts: Vec<String> = problems.values().map(|noted| noted.text.clone()).collect();
        self.state.send_if_modified(|state| {
            let changed = state.problems != texts;
            state.problems = texts;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_problem_is_shown_until_it_is_solved_or_not_met_for_a_while() {
        let (state, shown) = watch::channel(State::default());
        let board = Board::new(state);
        board.problem("a", "a fails".to_owned());
        board.problem("b", "b fails".to_owned());
        assert_eq!(shown.borrow().problems, ["a fails", "b fails"]);
        board.solved("a");
        assert_eq!(shown.borrow().problems, ["b fails"]);
        tokio::time::advance(MEMORY / 2).await;
        board.problem("c", "c fails".to_owned());
        tokio::time::advance(MEMORY / 2).await;
        board.forget_old();
        assert_eq!(shown.borrow().problems, ["c fails"]);
    }
}
