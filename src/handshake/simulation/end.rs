//! One end of a route: the status that its gateways share, and the gateways.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::api::{DomainRouteToken, DomainRouteTokenStatus};

use crate::handshake::state::{Expiry, Source};
use crate::replicas::chosen;

/// What a token is, here: a number.
pub(super) type Secret = u32;

#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) status: DomainRouteTokenStatus,
    /// Which of its keys the domain has. A token is sealed with one.
    pub(super) key: u8,
    /// Seconds since the Unix epoch.
    pub(super) clock: i64,
    pub(super) gateways: Vec<Gateway>,
}

#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) name: String,
    /// It is there: its Envoy serves, and others wait for it.
    pub(super) is_alive: bool,
    /// Its mesh runs.
    pub(super) is_running: bool,
    /// The tokens that its Envoy accepts, or the one that it sends, by revision.
    pub(super) envoy: BTreeMap<i64, Secret>,
    /// Since when the Envoy has another configuration than the status asks for.
    pub(super) behind_since: Option<u64>,
    pub(super) source: Source,
    /// The call that waits for its answer, and since when.
    pub(super) call: Option<(u32, u64)>,
    /// Nanoseconds that the destination's clock is ahead, if that was told.
    pub(super) clock_offset: Option<i64>,
    pub(super) serving: Vec<Serving>,
    pub(super) expiry: Expiry,
}

/// A request for a token that a gateway of the destination has offered one for.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) call: u32,
    pub(super) from: usize,
    pub(super) revision: i64,
    pub(super) secret: Secret,
    pub(super) expires: Timestamp,
}

impl End {
    pub(super) fn new(name: &str, gateways: usize, status: DomainRouteTokenStatus, clock: i64) -> Self {
        let gateway = |number| Gateway {
            name: format!("{name}-{number}"),
            is_alive: true,
            is_running: true,
            envoy: BTreeMap::new(),
            behind_since: Some(0),
            source: Source::default(),
            call: None,
            clock_offset: None,
            serving: Vec::new(),
            expiry: Expiry::default(),
        };
        Self { status, key: 0, clock, gateways: (0..gateways).map(gateway).collect() }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock).expect("clocks jump by some years at most")
    }

    pub(super) fn live(&self) -> BTreeSet<String> {
        let live = self.gateways.iter().filter(|gateway| gateway.is_alive);
        live.map(|gateway| gateway.name.clone()).collect()
    }

    pub(super) fn is_chosen(&self, gateway: usize, before: &str) -> bool {
        chosen(&self.live(), before) == Some(self.gateways[gateway].name.as_str())
    }

    pub(super) fn seal(&self, secret: Secret) -> String {
        format!("{}:{secret}", self.key)
    }

    pub(super) fn open(&self, token: &DomainRouteToken) -> Option<Secret> {
        let (key, secret) = token.token.split_once(':')?;
        if key.parse() == Ok(self.key) { secret.parse().ok() } else { None }
    }

    fn tokens(&self) -> impl DoubleEndedIterator<Item = &DomainRouteToken> {
        self.status.tokens.iter().chain([&self.status.revision_token])
    }

    /// What Envoys of the destination are told to accept.
    pub(super) fn accepted(&self) -> BTreeMap<i64, Secret> {
        self.tokens().filter_map(|token| Some((token.revision, self.open(token)?))).collect()
    }

    /// What Envoys of the source are told to send.
    pub(super) fn sending(&self) -> BTreeMap<i64, Secret> {
        let ready = self.tokens().rev().filter(|token| token.is_ready);
        let newest = ready.filter_map(|token| Some((token.revision, self.open(token)?))).next();
        newest.into_iter().collect()
    }
}
