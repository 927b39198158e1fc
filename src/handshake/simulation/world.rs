//! What there is, and what each step makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use model::api::DomainRouteTokenStatus;
use model::{settle_tokens, with_listed};
use proto::handshake::TokenState;

use super::end::{End, Secret, Serving};
use super::{Fate, Step};
use crate::handshake::state::{
    self, Action, Expiry, Forgetting, NewToken, Source, View, check_request_time, end_of_life, standing,
};

pub(super) const SOURCE: usize = 0;
pub(super) const DESTINATION: usize = 1;

pub(super) const PERIOD: Duration = Duration::from_secs(100);

const SECOND: i64 = 1_000_000_000;

/// What kind of world it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    /// Requests of the source are signed.
    pub(super) is_signed: bool,
    /// Requests that are not signed are answered, too.
    pub(super) is_open: bool,
    /// Number of gateways at each end.
    pub(super) gateways: [usize; 2],
    /// Even a token whose time is over must be accepted while the source sends it.
    pub(super) is_strict: bool,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) rules: Rules,
    /// Seconds that have passed.
    pub(super) time: u64,
    pub(super) ends: [End; 2],
    pub(super) messages: Vec<Message>,
    /// When the source last stored a token.
    pub(super) stored_at: u64,
    /// What went wrong that must not.
    pub(super) violation: Option<String>,
    calls: u32,
    secrets: u32,
    /// The tokens that the destination is obliged to accept, if the source sends them.
    owed: BTreeSet<Secret>,
    /// Signed requests that were answered.
    answered: BTreeSet<u32>,
}

/// What is under way.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// From a gateway of the source.
    Ask { call: u32, from: usize, keys: [u8; 2], request_time: i64 },
    /// To a gateway of the source.
    Answer { call: u32, to: usize, given: Result<Given, Option<i64>> },
}

#[derive(Clone, Debug)]
pub(super) struct Given {
    keys: [u8; 2],
    revision: i64,
    secret: Secret,
    expires: jiff::Timestamp,
    request_time: i64,
}

impl World {
    pub(super) fn new(rules: Rules, statuses: [DomainRouteTokenStatus; 2]) -> Self {
        let [source, destination] = statuses;
        Self {
            rules,
            time: 0,
            ends: [
                End::new("source", rules.gateways[SOURCE], source, 1_000_000),
                End::new("destination", rules.gateways[DESTINATION], destination, 1_000_000),
            ],
            messages: Vec::new(),
            stored_at: 0,
            violation: None,
            calls: 0,
            // Secrets of the first statuses are lower.
            secrets: 1000,
            owed: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// What the gateway of the source does next.
    pub(super) fn next(&self, gateway: usize) -> Option<Action> {
        let end = &self.ends[SOURCE];
        let memory = &end.gateways[gateway];
        if !memory.is_running
            || memory.call.is_some()
            || !end.is_chosen(gateway, &end.status.revision_initializer)
        {
            return None;
        }
        let view = View {
            status: &end.status,
            is_open: end.open(&end.status.revision_token).is_some(),
            period: Some(PERIOD),
            own: &memory.name,
            live: &end.live(),
        };
        Some(memory.source.next(view, end.now()))
    }

    pub(super) fn take(&mut self, step: &Step) {
        match *step {
            Step::Act { gateway, with, fate } => self.act(gateway, with, fate),
            Step::Deliver { message, to, again } => self.deliver(message, to, again),
            Step::Lose { message } => drop(self.messages.remove(message)),
            Step::GiveUp { gateway } => self.fail(gateway, None),
            Step::Answer { gateway, serving } => self.answer(gateway, serving),
            Step::Program { end, gateway } => self.program(end, gateway),
            Step::List { end, gateway } => self.list(end, gateway),
            Step::Settle { gateway } => self.settle(gateway),
            Step::Forget { gateway } => self.forget(gateway),
            Step::Request { from, to } => self.request(from, to),
            Step::Crash { end, gateway } => self.crash(end, gateway),
            Step::Start { end, gateway } => self.ends[end].gateways[gateway].is_running = true,
            Step::Die { end, gateway } => {
                self.crash(end, gateway);
                self.ends[end].gateways[gateway].is_alive = false;
            }
            Step::Revive { end, gateway } => {
                let gateway_of = &mut self.ends[end].gateways[gateway];
                (gateway_of.is_alive, gateway_of.is_running) = (true, true);
                self.program(end, gateway);
            }
            Step::Pass { seconds } => self.pass(seconds),
            Step::Jump { end, seconds } => self.ends[end].clock += seconds,
            Step::Forge { to } => self.forge(to),
            Step::LoseStatus { end } => {
                self.ends[end].status = DomainRouteTokenStatus::default();
                self.owed.clear();
                self.answered.clear();
            }
            Step::ChangeKey { end } => {
                self.ends[end].key += 1;
                self.owed.clear();
                if end == DESTINATION {
                    self.ends[SOURCE].gateways.iter_mut().for_each(|gateway| gateway.source.peer_changed());
                }
            }
        }
        self.look();
    }

    fn act(&mut self, gateway: usize, with: usize, fate: Fate) {
        let now = self.ends[SOURCE].now();
        match self.next(gateway) {
            Some(Action::Claim) => {
                let end = &mut self.ends[SOURCE];
                end.status = state::with_claim(&end.status, &end.gateways[gateway].name);
            }
            Some(Action::Negotiate) => {
                self.calls += 1;
                let end = &mut self.ends[SOURCE];
                let memory = &mut end.gateways[gateway];
                memory.call = Some((self.calls, self.time));
                let last = state::last_request_time(&end.status);
                let request_time = state::next_request_time(end.clock * SECOND, memory.clock_offset, last);
                let keys = self.ends.each_ref().map(|end| end.key);
                if fate != Fate::RequestLost {
                    let ask = Message::Ask { call: self.calls, from: gateway, keys, request_time };
                    self.messages.push(ask);
                }
            }
            Some(Action::Probe) => {
                let token = self.ends[SOURCE].status.revision_token.clone();
                let secret = self.ends[SOURCE].open(&token);
                let told = (fate != Fate::RequestLost).then(|| self.probed(with, token.revision, secret));
                let told = told.filter(|_| fate == Fate::Through);
                let end = &mut self.ends[SOURCE];
                end.gateways[gateway].source.probed(told, now);
                if told == Some(TokenState::TokenReady)
                    && let Some(confirmed) = state::with_confirmed(&end.status, token.revision, now)
                {
                    end.status = confirmed;
                }
            }
            Some(Action::Wait(_)) | None => {}
        }
    }

    fn probed(&mut self, gateway: usize, revision: i64, secret: Option<Secret>) -> TokenState {
        let end = &mut self.ends[DESTINATION];
        if !end.gateways[gateway].is_running || end.accepted().get(&revision) != secret.as_ref() {
            return TokenState::TokenNotFound;
        }
        if let Some(proven) = state::with_proven(&end.status, revision, end.now()) {
            end.status = proven;
        }
        standing(&end.status, revision, end.now())
    }

    fn deliver(&mut self, message: usize, to: usize, again: bool) {
        let message = if again { self.messages[message].clone() } else { self.messages.remove(message) };
        match message {
            Message::Ask { call, from, keys, request_time } => self.asked(to, call, from, keys, request_time),
            Message::Answer { call, to, given } => self.answered(call, to, given),
        }
    }

    fn asked(&mut self, gateway: usize, call: u32, from: usize, keys: [u8; 2], request_time: i64) {
        let is_signed = self.rules.is_signed;
        let before = self.ends[DESTINATION].status.clone();
        if keys != self.ends.each_ref().map(|end| end.key) {
            return self.refuse(call, from, None);
        }
        let now = self.ends[DESTINATION].now();
        let stale = check_request_time(&before, request_time, now).err().filter(|_| is_signed);
        if let Some(stale) = stale {
            return self.refuse(call, from, Some(stale.expected_after));
        }
        if self.offer(gateway, call, from, is_signed.then_some(request_time)).is_none() {
            return self.refuse(call, from, None);
        }
        if is_signed && !self.answered.insert(call) && self.ends[DESTINATION].status != before {
            self.violation = Some(format!("call {call} was repeated, and answered again"));
        }
    }

    fn offer(&mut self, gateway: usize, call: u32, from: usize, request_time: Option<i64>) -> Option<Secret> {
        self.secrets += 1;
        let secret = self.secrets;
        let end = &mut self.ends[DESTINATION];
        let now = end.now();
        let (revision, expires) = state::next_revision(&end.status, Some(PERIOD), now);
        let new = NewToken { sealed: end.seal(secret), revision, expires, request_time };
        end.status = state::with_offered(&end.status, new, now).ok()?;
        self.owed.insert(secret);
        end.gateways[gateway].serving.push(Serving { call, from, revision, secret, expires });
        Some(secret)
    }

    fn refuse(&mut self, call: u32, to: usize, expected_time: Option<i64>) {
        self.messages.push(Message::Answer { call, to, given: Err(expected_time) });
    }

    fn answer(&mut self, gateway: usize, serving: usize) {
        let end = &mut self.ends[DESTINATION];
        let newest = &end.status.revision_token;
        let Serving { call, from, revision, secret, expires } = end.gateways[gateway].serving.remove(serving);
        if newest.revision != revision || end.open(newest) != Some(secret) {
            return self.refuse(call, from, None);
        }
        let request_time = newest.signed_request_time.unwrap_or_default();
        let keys = self.ends.each_ref().map(|end| end.key);
        let given = Ok(Given { keys, revision, secret, expires, request_time });
        self.messages.push(Message::Answer { call, to: from, given });
    }

    fn answered(&mut self, call: u32, gateway: usize, given: Result<Given, Option<i64>>) {
        let end = &self.ends[SOURCE];
        // What strangers are answered is nobody's here.
        let waiting = end.gateways.get(gateway).and_then(|known| known.call);
        if waiting.is_none_or(|(waiting, _)| waiting != call) {
            return;
        }
        let given = match given {
            // What was meant for a key that the domain had before cannot be opened.
            Ok(given) if given.keys[SOURCE] == end.key => given,
            Ok(_) => return self.fail(gateway, None),
            Err(expected_time) => return self.fail(gateway, expected_time),
        };
        let now = end.now();
        let new = NewToken {
            sealed: end.seal(given.secret),
            revision: given.revision,
            expires: end_of_life(given.expires, Some(PERIOD), now),
            request_time: self.rules.is_signed.then_some(given.request_time),
        };
        let stored = state::with_negotiated(&end.status, new, &end.gateways[gateway].name, now);
        let Some(stored) = stored else { return self.fail(gateway, None) };
        let end = &mut self.ends[SOURCE];
        end.status = stored;
        end.gateways[gateway].call = None;
        end.gateways[gateway].source.negotiated(now);
        self.stored_at = self.time;
    }

    fn fail(&mut self, gateway: usize, expected_time: Option<i64>) {
        let end = &mut self.ends[SOURCE];
        let now = end.now();
        let memory = &mut end.gateways[gateway];
        memory.call = None;
        memory.source.negotiation_failed(now, 1);
        if let Some(expected) = expected_time {
            // Some time passes until the next request.
            memory.clock_offset = Some(expected + 1 - end.clock * SECOND);
        }
    }

    fn program(&mut self, end: usize, gateway: usize) {
        let wanted = self.wanted(end);
        self.ends[end].gateways[gateway].envoy = wanted;
    }

    /// What the Envoys at an end are told.
    pub(super) fn wanted(&self, end: usize) -> BTreeMap<i64, Secret> {
        if end == SOURCE { self.ends[end].sending() } else { self.ends[end].accepted() }
    }

    fn list(&mut self, end: usize, gateway: usize) {
        let End { status, gateways, .. } = &mut self.ends[end];
        if let Some(listed) = with_listed(status, status.revision_token.revision, &gateways[gateway].name) {
            *status = listed;
        }
        if end == DESTINATION {
            self.settle(gateway);
        }
    }

    fn settle(&mut self, gateway: usize) {
        let end = &mut self.ends[DESTINATION];
        let newest = &end.status.revision_token;
        let is_listed = newest.effective_instances.contains(&end.gateways[gateway].name);
        if let Some(settled) = settle_tokens(&end.status, &end.live()).filter(|_| is_listed) {
            end.status = settled;
        }
    }

    /// What the gateway of the destination has to do about expired tokens.
    pub(super) fn forgetting(&mut self, gateway: usize) -> Forgetting {
        let time = Duration::from_secs(self.time);
        let end = &mut self.ends[DESTINATION];
        if !end.gateways[gateway].is_running || !end.is_chosen(gateway, "") {
            end.gateways[gateway].expiry = Expiry::default();
            return Forgetting::Nothing;
        }
        let now = end.now();
        end.gateways[gateway].expiry.next(&end.status, now, time)
    }

    fn forget(&mut self, gateway: usize) {
        let Forgetting::Now(revisions) = self.forgetting(gateway) else { return };
        let before = self.ends[DESTINATION].accepted();
        let end = &mut self.ends[DESTINATION];
        if let Some(left) = state::without_expired(&end.status, &revisions, end.now()) {
            end.status = left;
        }
        if !self.rules.is_strict {
            let left = self.ends[DESTINATION].accepted();
            let gone = before.iter().filter(|(revision, _)| !left.contains_key(revision));
            gone.for_each(|(_, secret)| {
                self.owed.remove(secret);
            });
        }
    }

    /// An application sends a request. A gateway of the destination that lets it in knows then that the source has the
    /// token.
    fn request(&mut self, from: usize, to: usize) {
        let sent = self.ends[SOURCE].gateways[from]
            .envoy
            .iter()
            .next()
            .map(|(revision, secret)| (*revision, *secret));
        let end = &mut self.ends[DESTINATION];
        let Some((_, secret)) = sent else { return };
        let accepted = end.gateways[to].envoy.iter().find(|(_, accepted)| **accepted == secret);
        let Some((&revision, _)) = accepted else { return };
        if end.accepted().get(&revision) == Some(&secret)
            && let Some(proven) = state::with_proven(&end.status, revision, end.now())
        {
            end.status = proven;
        }
    }

    fn crash(&mut self, end: usize, gateway: usize) {
        let gateway = &mut self.ends[end].gateways[gateway];
        gateway.is_running = false;
        gateway.source = Source::default();
        gateway.call = None;
        gateway.clock_offset = None;
        gateway.serving.clear();
        gateway.expiry = Expiry::default();
    }

    fn pass(&mut self, seconds: u64) {
        self.time += seconds;
        for end in &mut self.ends {
            end.clock += i64::try_from(seconds).expect("a short time");
        }
        for gateway in 0..self.rules.gateways[DESTINATION] {
            self.forgetting(gateway);
        }
    }

    /// A stranger asks for a token in the source's name.
    fn forge(&mut self, to: usize) {
        // Nobody can sign for the source.
        if self.rules.is_open {
            self.calls += 1;
            self.offer(to, self.calls, usize::MAX, None);
        }
    }

    /// Notes who is behind, and looks whether any request would be refused.
    fn look(&mut self) {
        for end in [SOURCE, DESTINATION] {
            let wanted = self.wanted(end);
            for gateway in &mut self.ends[end].gateways {
                let is_behind = gateway.is_alive && gateway.envoy != wanted;
                gateway.behind_since = is_behind.then(|| gateway.behind_since.unwrap_or(self.time));
            }
        }
        let [source, destination] = &self.ends;
        for from in source.gateways.iter().filter(|gateway| gateway.is_alive) {
            for to in destination.gateways.iter().filter(|gateway| gateway.is_alive) {
                let refused = from.envoy.values().find(|secret| {
                    self.owed.contains(secret) && !to.envoy.values().any(|accepted| accepted == *secret)
                });
                if let Some(secret) = refused {
                    let problem =
                        format!("{} sends token {secret}, which {} does not accept", from.name, to.name);
                    self.violation.get_or_insert(problem);
                }
            }
        }
    }

    /// All that matters for what can happen from here.
    fn essence(&self) -> String {
        format!("{:?}", (&self.ends, &self.messages, self.time, self.stored_at, &self.violation, &self.owed))
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.essence().hash(hasher);
    }
}
