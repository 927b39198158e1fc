//! Names of domains, services and hosts.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Problem;

/// The service that answers handshakes in every domain.
pub(crate) const HANDSHAKE_SERVICE: &str = "kuscia-handshake";

/// What the gateway of every domain answers by itself, to those that it lets in.
pub(crate) const DATAPATH_SERVICE: &str = "kuscia-datapath";

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// The text is no DNS label.
    #[error("{0:?} is not a DNS label (RFC 1123)")]
    NotALabel(String),
    /// The text is neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    NotAHost(String),
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        let remedy = match error {
            NameError::Empty => "give a name",
            NameError::NotALabel(_) => {
                "use 1 to 63 lower-case letters, digits and \"-\", with a letter or digit at both ends"
            }
            NameError::NotAHost(_) => {
                "give a name such as gateway.example.com, or an address such as 192.0.2.1, without scheme, port or path"
            }
        };
        Self::new(error.to_string(), remedy)
    }
}

/// Checks an RFC 1123 label: 1 to 63 lower-case letters, digits and hyphens, no hyphen at the ends.
fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.len() > 63 || !text.bytes().all(inner) || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::NotALabel(text.chars().take(80).collect()));
    }
    Ok(())
}

/// Whether `text` is a token of HTTP (RFC 9110 section 5.6.2), as the names of headers and cookies are.
pub(crate) fn is_token(text: &str) -> bool {
    let is_sign = |c: u8| b"!#$%&'*+-.^_`|~".contains(&c);
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || is_sign(c))
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label(text)?;
                Ok(Self(text.into()))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

label! {
    /// ID of a domain: an RFC 1123 label, which is also its Kubernetes namespace.
    DomainId
}

label! {
    /// Name of a service inside its domain: an RFC 1123 label.
    ServiceName
}

impl DomainId {
    /// True for names that no institution's domain may bear: `default`, `kube-*`, `master`, `cross-domain`.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(self.as_str(), "default" | "master" | "cross-domain") || self.0.starts_with("kube-")
    }

    /// The host of a service of this domain: `<service>.<domain>.svc`.
    #[must_use]
    pub fn service_host(&self, service: &str) -> String {
        format!("{service}.{self}.svc")
    }

    /// The host of this domain's control service, which answers handshakes.
    #[must_use]
    pub fn handshake_host(&self) -> String {
        self.service_host(HANDSHAKE_SERVICE)
    }

    /// The host at which this domain's gateway answers by itself whoever gets in as an application's request does, which
    /// shows that such requests get through.
    #[must_use]
    pub fn datapath_host(&self) -> String {
        self.service_host(DATAPATH_SERVICE)
    }
}

/// A DNS name or IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name in lower case, without the final dot.
    Name(String),
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(Ok(address)) = in_brackets.map(str::parse::<Ipv6Addr>) {
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let all_digits = name.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        if name.len() > 253 || all_digits || name.split('.').any(|label| check_label(label).is_err()) {
            return Err(NameError::NotAHost(text.chars().take(80).collect()));
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A port number from 1 to 65535.
pub(crate) fn parse_port(number: i64) -> Result<u16, Problem> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| Problem::new(format!("{number} is not a port"), "give a number from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "alice", "a-1", "0"] {
            assert!(DomainId::from_str(good).is_ok(), "{good}");
        }
        for bad in ["", "Alice", "a_b", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(DomainId::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_domains_are_known() {
        for name in ["default", "master", "cross-domain", "kube-system"] {
            assert!(DomainId::from_str(name).expect("a label").is_reserved(), "{name}");
        }
        assert!(!DomainId::from_str("alice").expect("a label").is_reserved());
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        assert_eq!("GW.Example.com.".parse(), Ok(Host::Name("gw.example.com".into())));
        assert_eq!("[::1]".parse(), Ok(Host::Address("::1".parse().expect("an address"))));
        for bad in ["http://a", "a:80", "a/b", "1.2.3.400", "[1.2.3.4]", "[::1", "", ".", "a..b", " a"] {
            assert!(Host::from_str(bad).is_err(), "{bad}");
        }
    }
    #[test]
    fn a_host_and_its_port_are_written_as_in_a_url() {
        let at = |host: &str| HostPort { host: host.parse().unwrap(), port: 80 }.to_string();
        assert_eq!(
            [at("bob.example"), at("192.0.2.1"), at("::1")],
            ["bob.example:80", "192.0.2.1:80", "[::1]:80"]
        );
    }

    #[test]
    fn services_have_hosts_within_their_domain() {
        let alice: DomainId = "alice".parse().unwrap();
        assert_eq!(alice.service_host("echo"), "echo.alice.svc");
        assert_eq!(alice.handshake_host(), "kuscia-handshake.alice.svc");
        assert_eq!(alice.datapath_host(), "kuscia-datapath.alice.svc");
    }

    #[test]
    fn an_error_shows_only_the_beginning_of_a_long_name() {
        let error = "x".repeat(10_000).parse::<DomainId>().unwrap_err();
        assert!(error.to_string().len() < 200);
        assert!("x/".repeat(10_000).parse::<Host>().unwrap_err().to_string().len() < 200);
    }
}
