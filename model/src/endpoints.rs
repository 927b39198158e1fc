//! `Endpoints` and `EndpointSlice`s, parsed into the one thing that both say.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::error::{FieldErrors, Problem};

/// Ready addresses, and the ports that each of them has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointGroup {
    ports: Vec<NamedPort>,
    ready: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedPort {
    /// Empty for a port without a name.
    name: String,
    number: u16,
}

impl EndpointGroup {
    /// The ready addresses of the port that bears this name. The only port of the group also stands for one without
    /// a name.
    pub(crate) fn addresses(&self, port_name: &str) -> impl Iterator<Item = SocketAddr> {
        let port = match self.ports.as_slice() {
            [only] if port_name.is_empty() => Some(only),
            ports => ports.iter().find(|port| port.name == port_name),
        };
        port.into_iter().flat_map(|port| self.ready.iter().map(|ip| SocketAddr::new(*ip, port.number)))
    }
}

/// Parses `Endpoints`.
pub(crate) fn parse_endpoints(object: &Endpoints) -> Result<Vec<EndpointGroup>, FieldErrors> {
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
        groups.push(EndpointGroup { ports, ready });
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

/// Parses an `EndpointSlice`. An endpoint that does not say whether it is ready counts as ready, as the API has it.
pub(crate) fn parse_slice(object: &EndpointSlice) -> Result<EndpointGroup, FieldErrors> {
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
    let mut ready = Vec::new();
    for (endpoint, path) in numbered("endpoints", object.endpoints.iter().flatten()) {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        for (address, field) in numbered("addresses", endpoint.addresses.iter()) {
            let address = errors.check(&format!("{path}.{field}"), parse_address(address));
            ready.extend(address.filter(|_| is_ready));
        }
    }
    if errors.is_empty() { Ok(EndpointGroup { ports, ready }) } else { Err(errors) }
}

fn numbered<'a, T: 'a>(
    field: &'static str,
    items: impl Iterator<Item = &'a T>,
) -> impl Iterator<Item = (&'a T, String)> {
    items.enumerate().map(move |(position, item)| (item, format!("{field}[{position}]")))
}

fn parse_port(name: Option<&str>, number: i32, path: &str, errors: &mut FieldErrors) -> Option<NamedPort> {
    let number = errors.check(path, crate::names::parse_port(number.into()))?;
    Some(NamedPort { name: name.unwrap_or_default().to_owned(), number })
}

fn parse_address(ip: &str) -> Result<IpAddr, Problem> {
    ip.parse().map_err(|_| {
        Problem::new(
            format!("{ip:?} is not an IP address"),
            "give an address such as 192.0.2.1 or 2001:db8::1",
        )
    })
}
