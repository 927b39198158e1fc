//! The networks that this host is in.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use ipnet::{IpNet, ip_mask_to_prefix};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use tracing::warn;

use crate::address::socket_address;

/// For how long it is believed which networks there are. Those of containers come and go.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The networks of this host's interfaces, but for loopback ones and links to one other host. They are read again from
/// time to time. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostNetworks {
    known: Arc<RwLock<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    subnets: Vec<IpNet>,
    read_at: Option<Instant>,
}

impl HostNetworks {
    /// The networks as they are now, or were a few seconds ago; sorted, each once.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        self.fresh(Instant::now(), read).subnets.clone()
    }

    /// Whether the address is of one of the networks.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.fresh(Instant::now(), read).subnets.iter().any(|subnet| subnet.contains(&address))
    }

    fn fresh(
        &self,
        now: Instant,
        read: impl FnOnce() -> nix::Result<Vec<IpNet>>,
    ) -> RwLockReadGuard<'_, Known> {
        let is_old = |known: &Known| {
            known.read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= MAX_AGE)
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if !is_old(&known) {
            return known;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read them meanwhile.
        if is_old(&known) {
            known.read_at = Some(now);
            match read() {
                Ok(subnets) => known.subnets = subnets,
                Err(error) => warn!(%error, "cannot read the networks of this host; see dns.recursion"),
            }
        }
        RwLockWriteGuard::downgrade(known)
    }
}

fn read() -> nix::Result<Vec<IpNet>> {
    let mut subnets: Vec<IpNet> = getifaddrs()?.filter_map(|interface| subnet(&interface)).collect();
    subnets.sort_unstable();
    subnets.dedup();
    Ok(subnets)
}

fn subnet(interface: &InterfaceAddress) -> Option<IpNet> {
    let address = socket_address(interface.address.as_ref()?)?.ip();
    let prefix = ip_mask_to_prefix(socket_address(interface.netmask.as_ref()?)?.ip()).ok()?;
    let is_beside = !address.is_loopback() && !interface.flags.contains(InterfaceFlags::IFF_POINTOPOINT);
    let subnet = IpNet::new(address, prefix).ok()?.trunc();
    // A network of everybody is nobody's neighbourhood.
    (is_beside && prefix > 0).then_some(subnet)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use nix::errno::Errno;
    use nix::sys::socket::SockaddrStorage;

    use super::*;

    fn interface(address: &str, netmask: &str, flags: InterfaceFlags) -> InterfaceAddress {
        let at = |ip: &str| Some(SockaddrStorage::from(SocketAddr::new(ip.parse().unwrap(), 0)));
        InterfaceAddress {
            interface_name: "eth0".to_owned(),
            flags,
            address: at(address),
            netmask: at(netmask),
            broadcast: None,
            destination: None,
        }
    }

    #[test]
    fn an_interface_is_in_the_network_of_its_address() {
        let long = "ffff:ffff:ffff:ffff::";
        for (address, netmask, network) in [
            ("192.0.2.77", "255.255.255.0", Some("192.0.2.0/24")),
            ("172.17.0.1", "255.255.0.0", Some("172.17.0.0/16")),
            ("198.51.100.7", "255.255.255.255", Some("198.51.100.7/32")),
            ("2001:db8::7", long, Some("2001:db8::/64")),
            ("fe80::1", long, Some("fe80::/64")),
            ("127.0.0.1", "255.0.0.0", None),
            ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
            ("192.0.2.77", "0.0.0.0", None),
            ("2001:db8::7", "::", None),
            ("192.0.2.77", "255.0.255.0", None),
        ] {
            let subnet = subnet(&interface(address, netmask, InterfaceFlags::IFF_UP));
            assert_eq!(subnet.map(|subnet| subnet.to_string()).as_deref(), network, "{address}");
        }
        let tunnel = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_POINTOPOINT;
        assert_eq!(subnet(&interface("10.8.0.2", "255.255.255.0", tunnel)), None);
        let mut other = interface("192.0.2.77", "255.255.255.0", InterfaceFlags::IFF_UP);
        other.address = None;
        assert_eq!(subnet(&other), None, "an address of another family");
    }

    #[test]
    fn networks_that_come_are_known_after_a_while_and_those_that_go_no_longer() {
        let networks = HostNetworks::default();
        let start = Instant::now();
        let mut reads = 0;
        let mut known = |after: Duration, now_there: nix::Result<&str>| {
            let read = || {
                reads += 1;
                now_there.map(|network| vec![network.parse().unwrap()])
            };
            let subnets = networks.fresh(start + after, read).subnets.clone();
            subnets.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let moment = Duration::from_millis(1);
        assert_eq!(known(Duration::ZERO, Ok("192.0.2.0/24")), ["192.0.2.0/24"]);
        assert_eq!(known(MAX_AGE - moment, Ok("172.17.0.0/16")), ["192.0.2.0/24"]);
        assert_eq!(known(MAX_AGE, Ok("172.17.0.0/16")), ["172.17.0.0/16"]);
        assert_eq!(known(MAX_AGE * 2, Err(Errno::EMFILE)), ["172.17.0.0/16"]);
        assert_eq!(known(MAX_AGE * 2 + moment, Ok("192.0.2.0/24")), ["172.17.0.0/16"]);
        assert_eq!(reads, 3);
    }
}
