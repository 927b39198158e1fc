//! A `Service` object → a service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt as _;

use super::{
    Access, Affinity, Definition, PortScope, Protocol, Quota, READY_TIME, Service, ServiceTls, SessionCookie,
};
use crate::error::{FieldErrors, Problem};
use crate::names::{self, DATAPATH_SERVICE, HANDSHAKE_SERVICE};
use crate::{DomainId, Host, HostPort, ServiceName};

const PORT_SCOPE: &str = "kuscia.secretflow/port-scope";
const LOAD_BALANCER: &str = "kuscia.secretflow/loadbalancer";
const ACCESS_DOMAIN: &str = "kuscia.secretflow/access-domain";
const PROTOCOL: &str = "kuscia.secretflow/protocol";
const TLS_VERIFICATION: &str = "kuscia.secretflow/tls-verification";
const STICKY_COOKIE: &str = "kuscia.secretflow/sticky-session-cookie";
const STICKY_TTL: &str = "kuscia.secretflow/sticky-session-ttl";
const TASK_ID: &str = "kuscia.secretflow/task-id";
const BANDWIDTH_LIMIT: &str = "kuscia.secretflow/bandwidth-limit-";

/// Most bytes of the name of a cookie.
const MAX_COOKIE_NAME: usize = 128;

/// How long clients keep a cookie where nothing is said: Kuscia's default.
const DEFAULT_COOKIE_TTL: Duration = Duration::from_hours(1);

/// Longest time to keep a cookie.
const MAX_COOKIE_TTL: Duration = Duration::from_hours(30 * 24);

/// Parses a service.
pub(crate) fn parse(service: &core::Service) -> Result<Definition, FieldErrors> {
    let mut errors = FieldErrors::default();
    let name = errors.check("metadata.name", parse_name(&service.name_any()));
    let labels = service.labels();
    let annotations = service.annotations();
    let annotation = |name: &str| annotations.get(name).map_or("", String::as_str);
    let scope = parse_scope(labels.get(PORT_SCOPE).map(String::as_str));
    let scope = errors.check(&format!("metadata.labels[{PORT_SCOPE}]"), scope);
    let access = errors.check(&annotation_path(ACCESS_DOMAIN), parse_access(annotation(ACCESS_DOMAIN)));
    let protocol = errors.check(&annotation_path(PROTOCOL), parse_protocol(annotation(PROTOCOL)));
    let (protocol, speaks_tls) = protocol.unzip();
    let tls = parse_tls(annotation(TLS_VERIFICATION), speaks_tls.unwrap_or(true));
    let tls = errors.check(&annotation_path(TLS_VERIFICATION), tls);
    let affinity = parse_affinity(service, annotation(STICKY_COOKIE), annotation(STICKY_TTL), &mut errors);
    let quota = parse_quota(service, &mut errors);
    let spec = service.spec.as_ref();
    let port = spec.and_then(|spec| spec.ports.as_ref()?.first());
    if port.is_none() {
        errors.add("spec.ports", Problem::new("is empty", "add the port that the service listens on"));
    }
    let external = match spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName")) {
        Some(spec) => parse_external(service, spec, port, &mut errors).map(|host| Some(Box::new(host))),
        None => Some(None),
    };
    let all = (name, scope, access, protocol, tls, affinity, quota, port, external);
    let (
        Some(name),
        Some(scope),
        Some(access),
        Some(protocol),
        Some(tls),
        Some(affinity),
        Some(quota),
        Some(port),
        Some(external),
    ) = all
    else {
        return Err(errors);
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let is_labelled = labels.get(LOAD_BALANCER).is_some_and(|value| value == "domainroute");
    let service = Service {
        name,
        scope,
        access,
        protocol,
        tls,
        affinity,
        through_gateway: is_labelled && scope != PortScope::Local,
        has_ready_time: annotations.contains_key(READY_TIME),
        port_name: port.name.as_deref().unwrap_or_default().into(),
        endpoints: Arc::default(),
        external,
    };
    Ok(Definition { service, quota })
}

fn annotation_path(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

fn parse_name(name: &str) -> Result<ServiceName, Problem> {
    if [HANDSHAKE_SERVICE, DATAPATH_SERVICE].contains(&name) {
        return Err(Problem::new("is the name of the mesh's own service", "choose another name"));
    }
    Ok(name.parse::<ServiceName>()?)
}

fn parse_scope(label: Option<&str>) -> Result<PortScope, Problem> {
    match label {
        None | Some("" | "Cluster") => Ok(PortScope::Cluster),
        Some("Domain") => Ok(PortScope::Domain),
        Some("Local") => Ok(PortScope::Local),
        Some(other) => {
            Err(Problem::new(format!("{other:?} is unknown"), "use \"Cluster\", \"Domain\" or \"Local\""))
        }
    }
}

fn parse_access(list: &str) -> Result<Access, Problem> {
    if list.trim().is_empty() {
        return Ok(Access::Anyone);
    }
    let domains: Result<BTreeSet<DomainId>, _> =
        list.split(',').map(|domain| domain.trim().parse()).collect();
    Ok(Access::Only(domains?.into_iter().collect()))
}

/// What is spoken, and whether within TLS.
fn parse_protocol(name: &str) -> Result<(Protocol, bool), Problem> {
    match name {
        "" | "HTTP" => Ok((Protocol::Http, false)),
        "HTTPS" => Ok((Protocol::Http, true)),
        "GRPC" => Ok((Protocol::Grpc, false)),
        "GRPCS" => Ok((Protocol::Grpc, true)),
        other => Err(Problem::new(
            format!("{other:?} is unknown"),
            "use \"HTTP\", \"HTTPS\", \"GRPC\" or \"GRPCS\"",
        )),
    }
}

fn parse_tls(verification: &str, speaks_tls: bool) -> Result<Option<ServiceTls>, Problem> {
    match verification {
        "" => Ok(speaks_tls.then_some(ServiceTls::Verified)),
        "off" if speaks_tls => Ok(Some(ServiceTls::Unverified)),
        "off" => {
            let remedy = "set the protocol to \"HTTPS\" or \"GRPCS\", or remove the annotation";
            Err(Problem::new("is given, and the service speaks no TLS", remedy))
        }
        other => {
            let remedy = "use \"off\", or remove the annotation: certificates are verified then";
            Err(Problem::new(format!("{other:?} is unknown"), remedy))
        }
    }
}

/// A cookie counts before the address: it is the more exact.
fn parse_affinity(
    service: &core::Service,
    cookie: &str,
    ttl: &str,
    errors: &mut FieldErrors,
) -> Option<Affinity> {
    let of_address = match service.spec.as_ref().and_then(|spec| spec.session_affinity.as_deref()) {
        None | Some("" | "None") => Ok(Affinity::None),
        Some("ClientIP") => Ok(Affinity::Client),
        Some(other) => Err(Problem::new(format!("{other:?} is unknown"), "use \"ClientIP\" or \"None\"")),
    };
    let of_address = errors.check("spec.sessionAffinity", of_address);
    let ttl = errors.check(&annotation_path(STICKY_TTL), parse_ttl(ttl));
    if cookie.is_empty() {
        return of_address.filter(|_| ttl.is_some());
    }
    if cookie.len() > MAX_COOKIE_NAME || !names::is_token(cookie) {
        let remedy = format!("use 1 to {MAX_COOKIE_NAME} letters, digits and signs such as \"-\" and \"_\"");
        let problem = Problem::new("is no name of a cookie (RFC 6265)", remedy);
        errors.add(annotation_path(STICKY_COOKIE), problem);
        return None;
    }
    of_address?;
    Some(Affinity::Cookie(Box::new(SessionCookie { name: cookie.into(), ttl: ttl? })))
}

/// Seconds, or a number with its unit: Kuscia writes `86400s`.
fn parse_ttl(text: &str) -> Result<Duration, Problem> {
    if text.is_empty() {
        return Ok(DEFAULT_COOKIE_TTL);
    }
    let (number, unit) = match text.as_bytes() {
        [.., b's'] => (&text[..text.len() - 1], 1),
        [.., b'm'] => (&text[..text.len() - 1], 60),
        [.., b'h'] => (&text[..text.len() - 1], 60 * 60),
        _ => (text, 1),
    };
    let ttl = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Duration::from_secs);
    ttl.filter(|ttl| !ttl.is_zero() && *ttl <= MAX_COOKIE_TTL).ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        let remedy = "give a time from a second to 30 days, such as \"3600\", \"3600s\" or \"24h\"";
        Problem::new(format!("{shown:?} is no time to keep a cookie"), remedy)
    })
}

/// As in Kuscia, a limit of zero or less is none.
fn parse_quota(service: &core::Service, errors: &mut FieldErrors) -> Option<Quota> {
    let annotations = service.annotations();
    let mut limits = Vec::new();
    let mut is_good = true;
    for (annotation, limit) in annotations {
        let Some(destination) = annotation.strip_prefix(BANDWIDTH_LIMIT) else { continue };
        let path = annotation_path(annotation);
        let destination = errors.check(&path, destination.parse::<DomainId>());
        let limit = errors.check(&path, parse_limit(limit));
        match (destination, limit) {
            (Some(destination), Some(Some(limit))) => limits.push((destination, limit)),
            (Some(_), Some(None)) => {}
            _ => is_good = false,
        }
    }
    let task = annotations.get(TASK_ID).filter(|task| !task.is_empty());
    let quota = Quota { task: task.map(|task| task.as_str().into()), limits: limits.into() };
    is_good.then_some(quota)
}

fn parse_limit(text: &str) -> Result<Option<u64>, Problem> {
    let Ok(limit) = text.trim().parse::<i64>() else {
        let shown: String = text.chars().take(80).collect();
        return Err(Problem::new(
            format!("{shown:?} is no number"),
            "give kibibytes a second, or 0 for no limit",
        ));
    };
    Ok(u64::try_from(limit).ok().filter(|limit| *limit > 0))
}

/// The host that a service really is. One that this mesh itself resolves to the service would lead in a loop.
fn parse_external(
    service: &core::Service,
    spec: &core::ServiceSpec,
    port: Option<&core::ServicePort>,
    errors: &mut FieldErrors,
) -> Option<HostPort> {
    const PATH: &str = "spec.externalName";
    let host = errors.check(PATH, spec.external_name.as_deref().unwrap_or_default().parse::<Host>());
    let port = errors.check("spec.ports[0].port", names::parse_port(port?.port.into()));
    let host = host?;
    let own_hosts = format!(".{}.svc", service.namespace().unwrap_or_default());
    if host.to_string().ends_with(&own_hosts) {
        let remedy = "name a host outside of the domain, or give the service a selector or Endpoints";
        errors.add(PATH, Problem::new("is a service of this domain itself", remedy));
        return None;
    }
    Some(HostPort { host, port: port? })
}
