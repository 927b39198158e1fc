//! Places that clients share fairly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

/// A number of places. A network gets one more only while it holds fewer than are free (the dynamic threshold of
/// Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998): one alone gets half,
/// and whoever comes next still finds room. Clones are the same places.
#[derive(Clone, Debug)]
pub(crate) struct Shares(Arc<Mutex<Taken>>);

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Shares,
    network: IpNet,
}

#[derive(Debug)]
struct Taken {
    free: usize,
    by_network: HashMap<IpNet, usize>,
}

impl Shares {
    /// So many places.
    pub(crate) fn new(total: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { free: total, by_network: HashMap::new() })))
    }

    /// A place for a client of this network; `None`: it holds its share.
    pub(crate) fn take(&self, network: IpNet) -> Option<Share> {
        let mut taken = self.lock();
        let held = taken.by_network.get(&network).copied().unwrap_or_default();
        if held >= taken.free {
            return None;
        }
        taken.free -= 1;
        taken.by_network.insert(network, held + 1);
        Some(Share { shares: self.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        taken.free += 1;
        if let Some(held) = taken.by_network.get_mut(&self.network) {
            *held -= 1;
            if *held == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that the network gets now.
    fn all(shares: &Shares, network: &str) -> Vec<Share> {
        let network = network.parse().unwrap();
        std::iter::from_fn(|| shares.take(network)).collect()
    }

    #[test]
    fn each_network_gets_half_of_what_those_before_left() {
        let shares = Shares::new(16);
        let taken: Vec<_> = (0..6).map(|number| all(&shares, &format!("192.0.{number}.0/24"))).collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [8, 4, 2, 1, 1, 0]);
    }

    #[test]
    fn who_holds_more_than_is_free_waits_while_others_come_in() {
        let shares = Shares::new(16);
        let mut first = all(&shares, "192.0.2.0/24");
        let _second = all(&shares, "198.51.100.0/24");
        first.truncate(6);
        assert_eq!(all(&shares, "192.0.2.0/24").len(), 0, "6 are held and 6 are free");
        assert_eq!(all(&shares, "2001:db8::/56").len(), 3);
    }

    #[test]
    fn places_that_are_given_back_are_free_and_leave_nothing_behind() {
        let shares = Shares::new(16);
        for _ in 0..10 {
            assert_eq!(all(&shares, "192.0.2.0/24").len(), 8);
        }
        assert!(shares.lock().by_network.is_empty());
    }

    #[test]
    fn a_single_place_can_be_taken() {
        let shares = Shares::new(1);
        assert_eq!(all(&shares, "192.0.2.1/32").len(), 1);
    }
}
