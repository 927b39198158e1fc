//! What became of the handshakes that others have asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many handshakes have ended how, since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes(Arc<Mutex<BTreeMap<String, u64>>>);

impl Outcomes {
    /// One more has ended so. The word is this program's own, never a client's.
    pub(super) fn count(&self, outcome: &str) {
        let mut outcomes = self.lock();
        match outcomes.get_mut(outcome) {
            Some(number) => *number += 1,
            None => drop(outcomes.insert(outcome.to_owned(), 1)),
        }
    }

    /// The numbers at this moment.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
