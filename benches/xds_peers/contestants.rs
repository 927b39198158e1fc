//! Who competes, and the programs it takes.

use std::path::PathBuf;

use harness::envoy_binary::Locator;
use xds::Protocol;

use crate::{Failure, go};

/// A server in one way of feeding it and asking it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// How the Go program feeds go-control-plane; `None` for our own server.
    pub(crate) mode: Option<&'static str>,
    pub(crate) protocol: Protocol,
    pub(crate) layout: Layout,
}

/// Which resources a domain is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As this mesh does.
    Ours,
    /// As Kuscia does.
    Kuscia,
}

/// All of them. The others are compared with the first.
pub(crate) const CONTESTANTS: [Contestant; 6] = [
    Contestant { name: "networkmesh, delta", mode: None, protocol: Protocol::Delta, layout: Layout::Ours },
    Contestant {
        name: "networkmesh, state-of-the-world",
        mode: None,
        protocol: Protocol::StateOfTheWorld,
        layout: Layout::Ours,
    },
    Contestant {
        name: "go-control-plane snapshots, state-of-the-world",
        mode: Some("snapshot"),
        protocol: Protocol::StateOfTheWorld,
        layout: Layout::Ours,
    },
    Contestant {
        name: "go-control-plane snapshots, delta",
        mode: Some("snapshot"),
        protocol: Protocol::Delta,
        layout: Layout::Ours,
    },
    Contestant {
        name: "go-control-plane linear, delta",
        mode: Some("linear"),
        protocol: Protocol::Delta,
        layout: Layout::Ours,
    },
    Contestant {
        name: "go-control-plane and layout as in Kuscia",
        mode: Some("kuscia"),
        protocol: Protocol::StateOfTheWorld,
        layout: Layout::Kuscia,
    },
];

/// Paths of what is run.
pub(crate) struct Programs {
    pub(crate) ours: PathBuf,
    pub(crate) peer: PathBuf,
    pub(crate) envoy: PathBuf,
}

impl Programs {
    pub(crate) async fn locate() -> Result<Self, Failure> {
        Ok(Self {
            ours: std::env::current_exe()?,
            peer: go::build("benches/peers", "xds-peer").await?,
            envoy: Locator::from_env().locate(&|line| eprintln!("{line}")).await?,
        })
    }
}
