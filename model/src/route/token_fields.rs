//! The fields of `tokenConfig`.

use std::time::Duration;

use certs::PublicKey;

use super::{HandshakePolicy, TokenMethod};
use crate::api::TokenConfig;
use crate::error::{FieldErrors, Problem};

pub(super) const SOURCE_KEY: &str = "spec.tokenConfig.sourcePublicKey";
pub(super) const DESTINATION_KEY: &str = "spec.tokenConfig.destinationPublicKey";

/// Longest time from one token to the next, in seconds: ten years, so that no clock overflows by it.
const MAX_ROLLING_UPDATE_PERIOD: u64 = 10 * 365 * 24 * 60 * 60;

/// The fields of `tokenConfig`.
pub(super) struct TokenFields {
    pub(super) source_key: Option<PublicKey>,
    pub(super) destination_key: Option<PublicKey>,
    pub(super) rolling_update_period: Option<Duration>,
    pub(super) method: TokenMethod,
    pub(super) handshake: HandshakePolicy,
}

impl TokenFields {
    pub(super) fn parse(config: Option<&TokenConfig>, errors: &mut FieldErrors) -> Option<Self> {
        let Some(config) = config else {
            let remedy = "add it, with tokenGenMethod: RSA-GEN";
            errors
                .add("spec.tokenConfig", Problem::new("is missing, and authenticationType is Token", remedy));
            return None;
        };
        let method = errors.check("spec.tokenConfig.tokenGenMethod", parse_method(&config.token_gen_method));
        let handshake = errors.check("spec.tokenConfig.handshake", parse_handshake(&config.handshake));
        let period = parse_period(config.rolling_update_period);
        let period = errors.check("spec.tokenConfig.rollingUpdatePeriod", period);
        let source_key = errors.check(SOURCE_KEY, parse_key(&config.source_public_key));
        let destination_key = errors.check(DESTINATION_KEY, parse_key(&config.destination_public_key));
        Some(Self {
            source_key: source_key?,
            destination_key: destination_key?,
            rolling_update_period: period?,
            method: method?,
            handshake: handshake?,
        })
    }
}

fn parse_method(name: &str) -> Result<TokenMethod, Problem> {
    match name {
        "RSA-GEN" => Ok(TokenMethod::Rsa),
        "UID-RSA-GEN" => Ok(TokenMethod::Uid),
        other => Err(Problem::new(
            format!("{other:?} is unknown"),
            "use \"RSA-GEN\", or \"UID-RSA-GEN\" with a peer that has no other",
        )),
    }
}

fn parse_handshake(name: &str) -> Result<HandshakePolicy, Problem> {
    match name {
        "" => Ok(HandshakePolicy::WhatPeerCan),
        "signed" => Ok(HandshakePolicy::Signed),
        "compatible" => Ok(HandshakePolicy::Compatible),
        other => Err(Problem::new(
            format!("{other:?} is unknown"),
            "use \"signed\" or \"compatible\", or remove the field",
        )),
    }
}

fn parse_period(seconds: i64) -> Result<Option<Duration>, Problem> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= MAX_ROLLING_UPDATE_PERIOD => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            let remedy =
                format!("give seconds, at most {MAX_ROLLING_UPDATE_PERIOD}, or 0 to keep a token for ever");
            Err(Problem::new(format!("{seconds} is out of range"), remedy))
        }
    }
}

fn parse_key(base64: &str) -> Result<Option<PublicKey>, Problem> {
    if base64.is_empty() {
        return Ok(None);
    }
    PublicKey::from_base64_pem(base64).map(Some).map_err(|error| {
        let remedy = "give the base64 of the PEM of an RSA public key of 2048 bits or more";
        Problem::new(error.to_string(), remedy)
    })
}
