//! Where the objects of a domain live.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use serde_json::{Value, json};

use crate::harness::cluster::Namespace;

/// An address of no machine (RFC 5737), to which nothing is sent.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 1), 9);

/// Where the objects of a domain live.
#[derive(Clone)]
pub enum Home {
    /// In the folder `manifests` of the domain.
    Folder,
    /// In a namespace of a Kubernetes API server, which need not be called like the domain.
    Namespace(Namespace),
}

impl Home {
    /// The IP address of this machine at which services of the domain may listen.
    ///
    /// Kubernetes takes no loopback address for an endpoint, so that there it is the one from which this machine reaches
    /// others. The kernel keeps what a machine sends to itself within it all the same.
    ///
    /// # Errors
    /// The machine has no other address than loopback.
    pub fn service_ip(&self) -> io::Result<IpAddr> {
        match self {
            Self::Folder => Ok(Ipv4Addr::LOCALHOST.into()),
            Self::Namespace(_) => own_ip().map_err(|error| {
                let remedy =
                    "Kubernetes needs another address than loopback: connect this machine to a network";
                io::Error::new(error.kind(), format!("{error}; {remedy}"))
            }),
        }
    }

    /// Section `source` of `networkmesh.yaml`.
    pub(super) fn source(&self) -> Value {
        match self {
            Self::Folder => json!({"directory": {}}),
            Self::Namespace(namespace) => json!({
                "kubernetes": {"kubeconfig": namespace.kubeconfig(), "namespace": namespace.name()},
            }),
        }
    }
}

/// The address that the kernel would choose to reach another machine.
fn own_ip() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(ELSEWHERE)?;
    Ok(socket.local_addr()?.ip())
}
