//! Who may ask for names of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::host_networks::HostNetworks;

/// The clients that may ask for names of others: those of loopback unless told otherwise. Clones are the same.
#[derive(Clone, Debug)]
pub struct Recursion {
    subnets: Vec<IpNet>,
    /// In which networks there are more of them.
    host_networks: Option<HostNetworks>,
}

impl Recursion {
    /// Those of loopback, and those in the networks that this host is in at that time.
    #[must_use]
    pub fn with_host_networks() -> Self {
        Self { host_networks: Some(HostNetworks::default()), ..Self::default() }
    }

    /// Whether the client at this address is one of them.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&address))
            || self.host_networks.as_ref().is_some_and(|networks| networks.contains(address))
    }

    /// Where they are at this moment.
    #[must_use]
    pub fn subnets(&self) -> Vec<IpNet> {
        let of_host = self.host_networks.iter().flat_map(HostNetworks::subnets);
        self.subnets.iter().copied().chain(of_host).collect()
    }
}

impl Default for Recursion {
    fn default() -> Self {
        let v4 = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        let v6 = IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST));
        vec![v4, v6].into()
    }
}

/// Those in these subnets, and no others.
impl From<Vec<IpNet>> for Recursion {
    fn from(subnets: Vec<IpNet>) -> Self {
        Self { subnets, host_networks: None }
    }
}
