//! Places for clients that keep a server waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// A number of places to wait in. Whoever comes when all are taken gets that of the one that has waited longest: who
/// means well is through in a moment, so slow ones, however many, displace each other.
#[derive(Clone)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

struct Taken {
    number: usize,
    next: u64,
    by_arrival: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// So many places.
    pub(crate) fn new(number: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { number, next: 0, by_arrival: BTreeMap::new() })))
    }

    /// Takes a place.
    pub(crate) fn take(&self) -> Place {
        let mut taken = self.lock();
        if taken.by_arrival.len() >= taken.number
            && let Some((_, lost)) = taken.by_arrival.pop_first()
        {
            lost.cancel();
        }
        let (arrival, lost) = (taken.next, CancellationToken::new());
        taken.next += 1;
        taken.by_arrival.insert(arrival, lost.clone());
        Place { places: self.clone(), arrival, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped or lost.
pub(crate) struct Place {
    places: Places,
    arrival: u64,
    lost: CancellationToken,
}

impl Place {
    /// Waits until somebody else has got the place.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().by_arrival.remove(&self.arrival);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_longest_loses_its_place_to_the_newest() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(!first.lost.is_cancelled());
        let third = places.take();
        assert!(first.lost.is_cancelled());
        assert!(!second.lost.is_cancelled() && !third.lost.is_cancelled());
    }

    #[test]
    fn places_that_are_left_can_be_taken() {
        let places = Places::new(2);
        let first = places.take();
        for _ in 0..10 {
            drop(places.take());
        }
        assert!(!first.lost.is_cancelled());
        assert_eq!(places.lock().by_arrival.len(), 1);
    }
}
