//! Words for what is known of a name.

use dns::NameKind;
use hickory_proto::rr::Name;
use model::{DomainId, Service};

use crate::names::State;

/// What a name is; `own` is this domain.
pub(super) fn meaning(name: &Name, found: &dns::Explanation, own: &DomainId) -> String {
    let shown = |part: Option<String>, else_: &str| part.unwrap_or_else(|| else_.to_owned());
    let service = shown(found.service.as_ref().map(|service| format!("service {service}")), "a service");
    let domain = shown(found.domain.as_ref().map(|domain| format!("domain {domain}")), "no domain");
    let is_own = found.domain.as_ref() == Some(own);
    match found.kind {
        NameKind::Zone => "the zone that this server speaks for".to_owned(),
        NameKind::Domain => domain,
        NameKind::NameServer => "this name server".to_owned(),
        NameKind::Service | NameKind::ServiceThroughGateway | NameKind::Alias | NameKind::Pending => {
            format!("{service} of this domain")
        }
        NameKind::Port => format!("the port of {service} of this domain"),
        NameKind::AbovePort => format!("a name above that of the port of {service}"),
        NameKind::Endpoint => format!("one address of {service} of this domain"),
        NameKind::Reverse => "an address of this domain".to_owned(),
        NameKind::Missing if is_own && name.num_labels() > 3 => format!("a name below {service}"),
        NameKind::Missing if is_own => format!("{service} of this domain"),
        NameKind::Missing if found.domain.is_none() => "a name below svc".to_owned(),
        NameKind::OtherDomain | NameKind::Missing => format!("{service} of {domain}"),
        NameKind::NotOurs => "a name of others".to_owned(),
    }
}

/// Where the name of a service leads.
pub(super) fn destination(service: &Service) -> String {
    let is_labelled = service.through_gateway;
    match (&service.external, service.endpoints.len()) {
        (Some(external), _) if is_labelled => {
            format!(
                "it is really {} (ExternalName), to which its label leads through the gateway",
                external.host
            )
        }
        (Some(external), _) => format!("it is really {} (ExternalName)", external.host),
        (None, _) if is_labelled => {
            "its label kuscia.secretflow/loadbalancer: domainroute leads clients to the gateway".to_owned()
        }
        (None, 0) => "none of its endpoints is ready".to_owned(),
        (None, 1) => "clients reach its only ready endpoint directly".to_owned(),
        (None, count) => format!("clients reach its {count} ready endpoints directly"),
    }
}

/// Why records are not there yet, or go.
pub(super) fn of_state(state: &State) -> Vec<String> {
    let as_before = |is_so: bool| if is_so { "; it is answered as before meanwhile" } else { "" };
    match state {
        State::Shown => Vec::new(),
        State::Waiting { since, envoys, is_shown_as_before } => {
            let missing = match envoys.iter().map(String::as_str).collect::<Vec<_>>() {
                envoys if envoys.is_empty() => "an Envoy is connected and has taken it".to_owned(),
                envoys => format!("these Envoys have taken it: {}", envoys.join(", ")),
            };
            vec![format!("it waits, since {since:.0}, until {missing}{}", as_before(*is_shown_as_before))]
        }
        State::Rejected { since, rejections, is_shown_as_before } => {
            let rejected = rejections.iter().map(|rejection| {
                // Envoy tells of several resources in several lines.
                let words = rejection.nack.message.lines().collect::<Vec<_>>().join(" ");
                format!("Envoy {} rejects {} {}: {words}", rejection.node, rejection.ty, rejection.name)
            });
            let waits = format!("it waits, since {since:.0}, for a change{}", as_before(*is_shown_as_before));
            rejected.chain([waits]).collect()
        }
        State::Lingering { until } => {
            vec![format!("it is gone; gateways serve those who have resolved it before until {until:.0}")]
        }
    }
}
