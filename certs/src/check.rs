//! Reads back what rcgen wrote, with a parser that shares no code with it.

use rcgen::{CertificateParams, CustomExtension, DnType, DnValue, IsCa};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::error::CertError;

/// Checks that a certificate says what `params` asked for, holds `public_key` and is signed by `issuer` (DER),
/// or by itself.
pub(crate) fn certificate(
    der: &[u8],
    params: &CertificateParams,
    public_key: &[u8],
    issuer: Option<&[u8]>,
) -> Result<(), CertError> {
    let made: X509Certificate<'_> = parse(der)?;
    let issuer: X509Certificate<'_> = parse(issuer.unwrap_or(der))?;

    let alternative_names = match made.subject_alternative_name() {
        Ok(extension) => extension.map_or(0, |names| names.value.general_names.len()),
        Err(_) => return Err(CertError::ReadBack("alternative names")),
    };
    let validity = made.validity();
    ensure(is_named(made.subject(), params), "subject")?;
    ensure(made.issuer().as_raw() == issuer.subject().as_raw(), "issuer")?;
    ensure(validity.not_before.timestamp() == params.not_before.unix_timestamp(), "start of validity")?;
    ensure(validity.not_after.timestamp() == params.not_after.unix_timestamp(), "end of validity")?;
    ensure(made.public_key().subject_public_key.data == public_key, "public key")?;
    ensure(made.is_ca() == matches!(params.is_ca, IsCa::Ca(_)), "basic constraints")?;
    ensure(alternative_names == params.subject_alt_names.len(), "alternative names")?;
    if params.use_authority_key_identifier_extension {
        ensure(names_key_of(&made, &issuer), "authority key identifier")?;
    }
    ensure(made.verify_signature(Some(issuer.public_key())).is_ok(), "signature")
}

/// Checks that a signing request says what `params` asked for, holds `public_key` and is signed by it.
pub(crate) fn signing_request(
    der: &[u8],
    params: &CertificateParams,
    public_key: &[u8],
) -> Result<(), CertError> {
    let made: X509CertificationRequest<'_> = parse(der)?;
    let info = &made.certification_request_info;
    let requested = info.iter_attributes().find_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(request) => Some(request.extensions.as_slice()),
        _ => None,
    });
    let extensions = requested.unwrap_or_default().iter().map(|extension| extension.value);
    let asked = params.custom_extensions.iter().map(CustomExtension::content);
    ensure(is_named(&info.subject, params), "subject")?;
    ensure(info.subject_pki.subject_public_key.data == public_key, "public key")?;
    ensure(extensions.eq(asked), "extensions")?;
    ensure(made.verify_signature().is_ok(), "signature")
}

fn parse<'a, T: FromDer<'a, x509_parser::error::X509Error>>(der: &'a [u8]) -> Result<T, CertError> {
    match T::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertError::ReadBack("structure")),
    }
}

fn ensure(holds: bool, what: &'static str) -> Result<(), CertError> {
    if holds { Ok(()) } else { Err(CertError::ReadBack(what)) }
}

fn is_named(name: &X509Name<'_>, params: &CertificateParams) -> bool {
    let wanted = match params.distinguished_name.get(&DnType::CommonName) {
        Some(DnValue::PrintableString(text)) => text.as_str(),
        Some(DnValue::Utf8String(text)) => text,
        _ => return false,
    };
    name.iter_attributes().count() == 1
        && name.iter_common_name().all(|found| found.as_str() == Ok(wanted))
        && name.iter_common_name().next().is_some()
}

/// Whether the authority key identifier of `made` is the subject key identifier of `issuer`.
fn names_key_of(made: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let named = made.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    });
    let held = issuer.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier),
        _ => None,
    });
    named.is_some() && named == held
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, DistinguishedName, KeyPair, PublicKeyData as _};

    use super::*;

    fn params() -> CertificateParams {
        let mut params = CertificateParams::new(["gw".to_string()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params
    }

    #[test]
    fn each_difference_from_what_was_asked_is_found() {
        let key = KeyPair::generate().unwrap();
        let other_key = KeyPair::generate().unwrap();
        let made = params().self_signed(&key).unwrap();
        let found = |change: fn(&mut CertificateParams)| {
            let mut asked = params();
            change(&mut asked);
            certificate(made.der(), &asked, key.der_bytes(), None)
        };

        assert_eq!(found(|_| ()), Ok(()));
        let differs = |what| Err(CertError::ReadBack(what));
        assert_eq!(
            found(|asked| asked.distinguished_name.push(DnType::CommonName, "bob")),
            differs("subject")
        );
        assert_eq!(found(|asked| asked.not_before -= time::Duration::SECOND), differs("start of validity"));
        assert_eq!(found(|asked| asked.not_after -= time::Duration::SECOND), differs("end of validity"));
        assert_eq!(
            found(|asked| asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            differs("basic constraints")
        );
        assert_eq!(found(|asked| asked.subject_alt_names.clear()), differs("alternative names"));
        assert_eq!(
            found(|asked| asked.use_authority_key_identifier_extension = true),
            differs("authority key identifier")
        );
        assert_eq!(certificate(made.der(), &params(), other_key.der_bytes(), None), differs("public key"));

        let namesake = params().self_signed(&other_key).unwrap();
        let result = certificate(made.der(), &params(), key.der_bytes(), Some(namesake.der()));
        assert_eq!(result, differs("signature"));
        let trailing = [made.der(), &[0][..]].concat();
        assert_eq!(certificate(&trailing, &params(), key.der_bytes(), None), differs("structure"));
    }
}
