//! The names that go into certificates.

use std::net::IpAddr;

use rcgen::string::PrintableString;
use rcgen::{DistinguishedName, DnType, DnValue, SanType};

use crate::error::CertError;

/// X.520 says 64, but Kuscia's `<domain>_ENVOY_EXTERNAL` is longer for a long domain ID, and no TLS library
/// minds.
const MAX_COMMON_NAME: usize = 128;

/// The name of a domain's authority. A printable string, as Go encodes it: Go and rustls compare the issuer of
/// a leaf with the subject of its authority byte by byte.
pub(crate) fn domain_name(domain: &str) -> Result<DistinguishedName, CertError> {
    let refused = || CertError::DomainId(domain.into());
    if !is_label(domain) || domain.contains(|c: char| c == '_' || c.is_ascii_uppercase()) {
        return Err(refused());
    }
    let value = PrintableString::try_from(domain).map_err(|_| refused())?;
    Ok(distinguished_name(DnValue::PrintableString(value)))
}

/// The name of a leaf.
pub(crate) fn leaf_name(common_name: &str) -> Result<DistinguishedName, CertError> {
    let length = common_name.chars().count();
    if length == 0 || length > MAX_COMMON_NAME || common_name.contains(char::is_control) {
        return Err(CertError::CommonName(common_name.into()));
    }
    Ok(distinguished_name(DnValue::Utf8String(common_name.into())))
}

/// An IP address, or a DNS name whose first label may be `*`. Underscores pass, because in-domain services are
/// named with them.
pub(crate) fn alternative_name(name: &str) -> Result<SanType, CertError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || CertError::AlternativeName(name.into());
    let labels = name.strip_prefix("*.").unwrap_or(name);
    if name.len() > 253 || !labels.split('.').all(is_label) {
        return Err(refused());
    }
    name.try_into().map(SanType::DnsName).map_err(|_| refused())
}

fn distinguished_name(common_name: DnValue) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// RFC 1123 section 2.1, with underscores.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_ids_are_rfc_1123_labels() {
        for good in ["alice", "a", "0", "domain-1", &"a".repeat(63)] {
            assert!(domain_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Alice", "a.b", "a_b", "-a", "a-", "a b", "a\n", "ä", &"a".repeat(64)] {
            assert_eq!(domain_name(bad), Err(CertError::DomainId(bad.into())));
        }
    }

    #[test]
    fn common_names_are_bounded_and_printable() {
        for good in ["alice_ENVOY_EXTERNAL", "Ünïcode", &"a".repeat(128)] {
            assert!(leaf_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0b", "a\nb", &"a".repeat(129)] {
            assert_eq!(leaf_name(bad), Err(CertError::CommonName(bad.into())));
        }
    }

    #[test]
    fn alternative_names_are_addresses_or_dns_names() {
        for good in ["10.0.0.1", "::1"] {
            assert!(matches!(alternative_name(good), Ok(SanType::IpAddress(_))), "{good}");
        }
        for good in ["localhost", "gw.example.com", "*.alice.svc", "kuscia-handshake.alice.svc", "a_b.svc"] {
            assert!(matches!(alternative_name(good), Ok(SanType::DnsName(_))), "{good}");
        }
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        let bad =
            ["", "*", "a..b", ".a", "a.", "gw:443", "http://gw", "a.*.b", "-a.b", "gw .b", "ä.b", &long];
        for bad in bad {
            assert_eq!(alternative_name(bad), Err(CertError::AlternativeName(bad.into())));
        }
    }
}
