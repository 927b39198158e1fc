//! Why a name resolves as it does, in words.

pub(crate) mod lookup;
mod words;

use std::io;

use dns::NameKind;
use envoy::Owner;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record};
use model::{DomainId, Kind, ServiceName, Snapshot};
use serde::{Deserialize, Serialize};

use self::lookup::Response;
use crate::names::State;

/// Slips (letters too many, missing, wrong or in the wrong order) between two names of which one is offered for the other.
const MOST_SLIPS: usize = 2;

/// Names that are offered at most.
const MOST_OFFERED: usize = 3;

/// What a name resolves to, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The name, in lower case and with its final dot.
    pub(crate) name: String,
    /// Whether clients get records for it; of names of others, and of services that are such, those clients that may ask
    /// for them, and addresses.
    pub(crate) resolves: bool,
    /// What the name is.
    pub(crate) meaning: String,
    /// Why it resolves so, one sentence each.
    pub(crate) reasons: Vec<String>,
    /// The records of the name at this moment, as in a master file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) records: Vec<String>,
    /// Names that were perhaps meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) near: Vec<String>,
}

/// What the parts of a mesh know of a name.
pub(crate) struct Facts<'a> {
    /// The domain, as its objects say.
    pub(crate) snapshot: &'a Snapshot,
    /// What the name is, and what clients get.
    pub(crate) found: dns::Explanation,
    /// What became of the service, or of the route, that the name stands for.
    pub(crate) state: Option<State>,
    /// What becomes of names of others.
    pub(crate) forwarding: Forwarding,
    /// What a client gets, if the name leads to others and was looked up.
    pub(crate) response: Option<io::Result<Response>>,
}

/// What becomes of names of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarding {
    /// Each server that is asked, and whether it answers.
    pub(crate) upstreams: Vec<(String, bool)>,
    /// For whom.
    pub(crate) clients: Vec<String>,
    /// Whether private addresses are taken out of the answer.
    pub(crate) is_protected: bool,
}

/// The service or route that a name stands for, there or not.
pub(crate) fn owner(found: &dns::Explanation, own: &DomainId) -> Option<Owner> {
    let domain = found.domain.as_ref()?;
    if domain == own {
        found.service.clone().map(Owner::Service)
    } else {
        Some(Owner::Outbound(domain.clone()))
    }
}

impl Explanation {
    /// Explains an absolute name.
    pub(crate) fn new(name: &Name, facts: &Facts<'_>) -> Self {
        let Facts { snapshot, found, state, forwarding, response } = facts;
        let owner = owner(found, &snapshot.domain);
        let mut explanation = Self {
            name: name.to_lowercase().to_ascii(),
            // Where an alias leads to, the response says.
            resolves: !found.records.is_empty() && found.kind != NameKind::Alias,
            meaning: words::meaning(name, found, &snapshot.domain),
            reasons: Vec::new(),
            records: lines(&found.records),
            near: Vec::new(),
        };
        match (found.kind, owner) {
            (NameKind::Zone | NameKind::NameServer | NameKind::Reverse, _) => {}
            (NameKind::Domain | NameKind::AbovePort, _) => {
                explanation.say("it has no records; only names below it have");
            }
            (NameKind::NotOurs, _) => {
                explanation.explain_forwarding(forwarding, "are refused", response.as_ref());
                if !explanation.resolves {
                    explanation.near = near(&text(name), snapshot.services.keys().map(ServiceName::as_str));
                }
            }
            (NameKind::Missing, Some(Owner::Service(service))) if name.num_labels() > 3 => {
                explanation.explain_below(name, &service, snapshot);
            }
            (NameKind::Alias, Some(Owner::Service(service))) => {
                explanation.explain_service(&service, snapshot);
                if found.records.iter().any(leads_into_svc) {
                    explanation.explain_response(response.as_ref());
                } else {
                    explanation.explain_forwarding(forwarding, "get the alias alone", response.as_ref());
                }
            }
            (_, Some(Owner::Service(service))) => explanation.explain_service(&service, snapshot),
            (_, Some(Owner::Outbound(domain))) => explanation.explain_partner(name, &domain, snapshot),
            (_, Some(Owner::Inbound(_)) | None) => explanation.say("no name of svc has this form"),
        }
        explanation.reasons.extend(state.iter().flat_map(words::of_state));
        explanation
    }

    fn say(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    fn explain_service(&mut self, name: &ServiceName, snapshot: &Snapshot) {
        match snapshot.services.get(name) {
            Some(service) => self.say(words::destination(service)),
            None => {
                self.say(format!("this domain has no service {name}"));
                let near = near(name.as_str(), snapshot.services.keys().map(ServiceName::as_str));
                self.near = near.iter().map(|near| snapshot.domain.service_host(near)).collect();
            }
        }
        self.say_rejected(Kind::Service, name.as_str(), snapshot);
    }

    /// Explains why nothing of this name is below a service.
    fn explain_below(&mut self, name: &Name, service: &ServiceName, snapshot: &Snapshot) {
        let Some(known) = snapshot.services.get(service) else {
            return self.explain_service(service, snapshot);
        };
        if !text(name).starts_with('_') {
            return self.say(format!("service {service} has no such address"));
        }
        self.say(match &*known.port_name {
            "" => format!("the port of service {service} has no name"),
            port => format!("the port of service {service} is _{port}._tcp"),
        });
    }

    fn explain_partner(&mut self, name: &Name, domain: &DomainId, snapshot: &Snapshot) {
        let object = format!("{}-{domain}", snapshot.domain);
        if snapshot.outbound.contains_key(domain) {
            self.say(format!("there is a route to {domain} ({object}): the gateway passes requests on"));
            self.say(format!("whether {domain} has such a service, only its own gateway can tell"));
        } else {
            self.say(format!("no route to {domain} is in force (DomainRoute {object})"));
            let domains = snapshot.outbound.keys().map(DomainId::as_str);
            let near = near(domain.as_str(), domains.chain([snapshot.domain.as_str()]));
            let text = text(name);
            let service = text.split('.').next().unwrap_or_default();
            self.near = near.iter().map(|near| format!("{service}.{near}.svc")).collect();
        }
        self.say_rejected(Kind::DomainRoute, &object, snapshot);
    }

    /// Explains what becomes of a name of others, where `others` says what those clients get for which nobody asks.
    fn explain_forwarding(
        &mut self,
        forwarding: &Forwarding,
        others: &str,
        response: Option<&io::Result<Response>>,
    ) {
        if forwarding.upstreams.is_empty() {
            return self.say("there is no upstream to ask: see dns.upstreams");
        }
        if forwarding.clients.is_empty() {
            return self.say("nobody may ask for names of others: dns.recursion is empty");
        }
        let shown = |(address, is_well): &(String, bool)| {
            if *is_well { address.clone() } else { format!("{address} (does not answer)") }
        };
        let upstreams: Vec<String> = forwarding.upstreams.iter().map(shown).collect();
        self.say(format!("it is for the upstreams to tell: {}", upstreams.join(", ")));
        let clients = forwarding.clients.join(", ");
        self.say(format!("they are asked for clients in {clients} (dns.recursion); others {others}"));
        if forwarding.is_protected {
            self.say("private addresses are taken out of the answer (dns.rebinding)");
        }
        self.explain_response(response);
    }

    fn explain_response(&mut self, response: Option<&io::Result<Response>>) {
        match response {
            Some(Ok(response)) => {
                self.resolves = response.records.iter().any(|record| record.data.ip_addr().is_some());
                if !response.records.is_empty() {
                    self.records = lines(&response.records);
                }
                let code = response.code;
                self.say(match (self.resolves, code) {
                    (true, _) => "a client that may ask gets the records below".to_owned(),
                    (false, ResponseCode::NoError) => "it has no addresses".to_owned(),
                    (false, _) => format!("a client that may ask is told: {code}"),
                });
            }
            Some(Err(error)) => self.say(format!("it could not be looked up: {error}")),
            None => self.say("it was not looked up, as this host is not in dns.recursion"),
        }
    }

    fn say_rejected(&mut self, kind: Kind, name: &str, snapshot: &Snapshot) {
        let is_it = |object: &model::ObjectRef| object.kind == kind && object.name == name;
        for (object, errors) in snapshot.rejected.iter().filter(|(object, _)| is_it(object)) {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            self.say(format!("the newest {object} is not in force: {}", errors.join("; ")));
        }
    }
}

/// Whether this is an alias of a name that no upstream is asked for.
fn leads_into_svc(record: &Record) -> bool {
    let RData::CNAME(target) = &record.data else { return false };
    target.0.iter().next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"svc"))
}

/// Records as in a master file.
fn lines(records: &[Record]) -> Vec<String> {
    dns::render_master_file(records.iter().cloned()).lines().map(ToOwned::to_owned).collect()
}

/// A name in lower case without its final dot.
fn text(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

/// Those of `known` that `name` may be a slip of, the likeliest first.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Each letter more or less is a slip, and far faster to count.
    let known = known.filter(|known| known.len().abs_diff(name.len()) <= MOST_SLIPS);
    let slips = known.map(|known| (strsim::osa_distance(name, known), known));
    let is_alike = |(slips, _): &(usize, &str)| *slips <= MOST_SLIPS && slips * 2 < name.len();
    let mut alike: Vec<(usize, &str)> = slips.filter(is_alike).collect();
    alike.sort_unstable();
    alike.into_iter().take(MOST_OFFERED).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests;
