//! Whose client certificates the external listener takes.
//!
//! It verifies before anybody has said who it is, so all that any source may show is in one validation context: the only
//! resource that is made of many objects. Which source a certificate is for is what the source's routes say
//! ([`callers`](crate::callers)).

use std::collections::BTreeSet;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, secret};
use model::{InboundAuth, InboundRoute};

use crate::message::{inline, uint};
use crate::resource::Resource;
use crate::secrets;
use crate::settings::Settings;

/// Name of the validation context.
pub(crate) const CLIENT_AUTHORITIES: &str = "client-authorities";

/// This domain's own authority, without which a context of no sources would let every certificate pass; and what the
/// sources may show.
pub(crate) fn client_authorities<'a>(
    settings: &Settings,
    inbound: impl Iterator<Item = &'a InboundRoute>,
) -> Resource {
    let shown: BTreeSet<&str> = inbound.flat_map(shown_by).collect();
    let trusted = [settings.authority_pem.as_str()].into_iter().chain(shown);
    // PEM blocks begin on lines of their own.
    let trusted: String = trusted.map(|pem| format!("{}\n", pem.trim_end())).collect();
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(trusted)),
        // Signed by one of them, or one of them. An authority that one of them signed could bear any name.
        max_verify_depth: uint(0),
        // A list of their names would tell strangers who the sources are. And TLS has room for 64 KiB of it: with more,
        // every handshake fails.
        suppress_client_ca_list: true,
        ..CertificateValidationContext::default()
    };
    secrets::resource(CLIENT_AUTHORITIES.to_owned(), secret::Type::ValidationContext(context))
}

/// The authority and the certificate of the route's source.
pub(crate) fn shown_by(route: &InboundRoute) -> impl Iterator<Item = &str> {
    let pin = match &route.auth {
        InboundAuth::Mtls { pin } => pin.as_ref(),
        InboundAuth::Token { .. } | InboundAuth::None => None,
    };
    route.authority.as_deref().into_iter().chain(pin.map(|pin| &*pin.pem))
}
