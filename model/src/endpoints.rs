//! `Endpoints` and `EndpointSlice`s, parsed into the one thing that both say.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;

use crate::ServiceName;
use crate::error::{FieldErrors, Problem};

/// Ports that the same addresses have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointGroup(Box<[Port]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    /// Empty for a port without a name.
    name: Box<str>,
    /// The ready addresses, sorted, each once. A service whose only addresses they are shares them.
    ready: Arc<[SocketAddr]>,
}

impl EndpointGroup {
    fn new(ports: Vec<(Box<str>, u16)>, ready: &BTreeSet<IpAddr>) -> Self {
        let port = |(name, number)| Port {
            name,
            ready: ready.iter().map(|ip| SocketAddr::new(*ip, number)).collect(),
        };
        Self(ports.into_iter().map(port).collect())
    }

    /// The ready addresses of the port that bears this name. The only port of the group also stands for one without
    /// a name.
    pub(crate) fn addresses(&self, port_name: &str) -> Option<&Arc<[SocketAddr]>> {
        let port = match &*self.0 {
            [only] if port_name.is_empty() => Some(only),
            ports => ports.iter().find(|port| *port.name == *port_name),
        };
        port.map(|port| &port.ready)
    }
}

/// An `EndpointSlice`.
#[derive(Debug)]
pub(crate) struct Slice {
    /// The service that it belongs to, if its name can be that of one.
    pub(crate) service: Option<ServiceName>,
    pub(crate) group: EndpointGroup,
}

/// The label by which an `EndpointSlice` names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Parses `Endpoints`.
pub(crate) fn parse_endpoints(object: &Endpoints) -> Result<Box<[EndpointGroup]>, FieldErrors> {
    let mut errors = FieldErrors::default();
    let mut groups = Vec::new();
    for (subset, path) in numbered("subsets", object.subsets.iter().flatten()) {
        let ports = numbered("ports", subset.ports.iter().flatten());
        let ports = ports.filter_map(|(port, field)| {
            parse_port(port.name.as_deref(), port.port, &format!("{path}.{field}.port"), &mut errors)
        });
        let ports = ports.collect();
        let addresses = numbered("addresses", subset.addresses.iter().flatten());
        let ready = addresses
            .filter_map(|(address, field)| {
                errors.check(&format!("{path}.{field}.ip"), parse_address(&address.ip))
            })
            .collect();
        groups.push(EndpointGroup::new(ports, &ready));
    }
    if errors.is_empty() { Ok(groups.into()) } else { Err(errors) }
}

/// Parses an `EndpointSlice`. An endpoint that does not say whether it is ready counts as ready, as the API has it.
pub(crate) fn parse_slice(object: &EndpointSlice) -> Result<Slice, FieldErrors> {
    let mut errors = FieldErrors::default();
    if object.address_type == "FQDN" {
        let problem = Problem::new("\"FQDN\" is not supported", "use \"IPv4\" or \"IPv6\"");
        errors.add("addressType", problem);
        return Err(errors);
    }
    let ports = numbered("ports", object.ports.iter().flatten());
    let ports = ports.filter_map(|(port, field)| {
        parse_port(port.name.as_deref(), port.port?, &format!("{field}.port"), &mut errors)
    });
    let ports = ports.collect();
    let mut ready = BTreeSet::new();
    for (endpoint, path) in numbered("endpoints", object.endpoints.iter().flatten()) {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        for (address, field) in numbered("addresses", endpoint.addresses.iter()) {
            let address = errors.check(&format!("{path}.{field}"), parse_address(address));
            ready.extend(address.filter(|_| is_ready));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let service = object.labels().get(SERVICE_NAME).and_then(|name| name.parse().ok());
    Ok(Slice { service, group: EndpointGroup::new(ports, &ready) })
}

fn numbered<'a, T: 'a>(
    field: &'static str,
    items: impl Iterator<Item = &'a T>,
) -> impl Iterator<Item = (&'a T, String)> {
    items.enumerate().map(move |(position, item)| (item, format!("{field}[{position}]")))
}

fn parse_port(
    name: Option<&str>,
    number: i32,
    path: &str,
    errors: &mut FieldErrors,
) -> Option<(Box<str>, u16)> {
    let number = errors.check(path, crate::names::parse_port(number.into()))?;
    Some((name.unwrap_or_default().into(), number))
}

fn parse_address(ip: &str) -> Result<IpAddr, Problem> {
    ip.parse().map_err(|_| {
        Problem::new(
            format!("{ip:?} is not an IP address"),
            "give an address such as 192.0.2.1 or 2001:db8::1",
        )
    })
}
