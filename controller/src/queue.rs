//! What is to be looked at, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A work queue: each key is in it once, is worked on by one at a time, and after a failure comes again after a pause
/// that grows.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<K>,
    waiting: BTreeSet<K>,
    running: BTreeSet<K>,
    /// Keys that were asked for while they were worked on.
    again: BTreeSet<K>,
    paused: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
}

impl<K: Clone + Ord> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            paused: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Asks for `key`. One that failed is looked at at once: what concerns it has changed.
    pub(crate) fn add(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
            return;
        }
        self.paused.remove(&key);
        if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// The next key to work on, until [`Self::done`] or [`Self::failed`] is called with it.
    pub(crate) fn next(&mut self, now: Instant) -> Option<K> {
        let over: Vec<K> =
            self.paused.iter().filter(|(_, until)| **until <= now).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// The work on `key` is done.
    pub(crate) fn done(&mut self, key: &K) {
        self.failures.remove(key);
        self.running.remove(key);
        if self.again.remove(key) {
            self.add(key.clone());
        }
    }

    /// The work on `key` has failed. Answers how often it has, one time after the other.
    pub(crate) fn failed(&mut self, key: K, now: Instant) -> u32 {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let count = *failures;
        let pause = FIRST_PAUSE.saturating_mul(1 << (count - 1).min(16)).min(LONGEST_PAUSE);
        self.running.remove(&key);
        self.again.remove(&key);
        self.paused.insert(key, now + pause);
        count
    }

    /// When the next pause is over.
    pub(crate) fn next_pause_over(&self) -> Option<Instant> {
        self.paused.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_worked_on_once_however_often_it_is_asked_for() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!((queue.next(now), queue.next(now), queue.next(now)), (Some("a"), Some("b"), None));
        queue.add("a");
        assert_eq!(queue.next(now), None, "it is worked on");
        queue.done(&"a");
        queue.done(&"b");
        assert_eq!((queue.next(now), queue.next(now)), (Some("a"), None));
    }

    #[test]
    fn a_key_that_fails_comes_again_after_pauses_that_grow_to_a_minute() {
        let (mut queue, mut now) = (Queue::new(), Instant::now());
        queue.add("a");
        let mut pauses = Vec::new();
        for round in 1..=12 {
            assert_eq!(queue.next(now), Some("a"));
            assert_eq!(queue.failed("a", now), round);
            assert_eq!(queue.next(now), None);
            let over = queue.next_pause_over().unwrap();
            pauses.push(over - now);
            now = over;
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[11], LONGEST_PAUSE);
        assert_eq!(queue.next(now), Some("a"));
        queue.done(&"a");
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        assert_eq!(queue.failed("a", now), 1, "a success ends the count");
    }

    #[test]
    fn a_change_ends_a_pause() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        queue.failed("a", now);
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        assert_eq!(queue.next_pause_over(), None);
    }
}
