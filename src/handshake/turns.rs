//! Locks by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One lock for each key that is in use: those who want the same one take turns, in the order in which they came.
#[derive(Clone, Debug)]
pub(super) struct Turns<K>(Arc<Mutex<BTreeMap<K, Turn>>>);

/// A lock. Its reference count tells how many have it or wait for it, with one for the table of locks.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

impl<K: Ord + Clone> Turns<K> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The lock of `key`. Locks that nobody has any more are forgotten.
    pub(super) fn of(&self, key: &K) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_want_the_same_take_turns_and_others_do_not_wait() {
        let turns = Turns::new();
        let (first, second) = (turns.of(&"a"), turns.of(&"a"));
        let held = first.lock().await;
        assert!(second.try_lock().is_err());
        assert!(turns.of(&"b").try_lock().is_ok());
        drop(held);
        assert!(second.try_lock().is_ok());
    }

    #[test]
    fn locks_that_nobody_has_are_forgotten() {
        let turns = Turns::new();
        let kept = turns.of(&0);
        for key in 1..100 {
            turns.of(&key);
        }
        assert_eq!(turns.0.lock().expect("is not poisoned").len(), 2, "the kept one and the last one");
        assert!(Arc::ptr_eq(&turns.of(&0), &kept));
    }
}
