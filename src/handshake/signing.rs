//! Signatures of handshakes, by the domain keys.
//!
//! The source signs its request, and with it the destination's name, a nonce and the time; the destination signs its
//! answer to that very request. So neither can be made up, altered, or taken for the answer to another one. That a request
//! is not repeated is for its time to show: [`state::check_request_time`](super::state::check_request_time).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certs::{DomainKey, PublicKey};
use model::HandshakePolicy;
use proto::handshake::{HandshakeRequest, HandshakeResponse};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// The signature is not that of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongSignature;

/// No random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub(super) struct NoRandomness;

/// Whether the other end must sign, which has signed before or not.
pub(super) fn is_required(policy: HandshakePolicy, has_signed: bool) -> bool {
    match policy {
        HandshakePolicy::Signed => true,
        HandshakePolicy::Compatible => false,
        HandshakePolicy::WhatPeerCan => has_signed,
    }
}

/// Signs a request to `destination` with the source's `key`.
///
/// # Errors
/// See [`NoRandomness`].
pub(super) fn sign_request(
    request: &mut HandshakeRequest,
    destination: &str,
    key: &DomainKey,
) -> Result<(), NoRandomness> {
    let mut nonce = [0; NONCE_BYTES];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| NoRandomness)?;
    request.nonce = STANDARD.encode(nonce);
    let signature = key.sign(&request.signed_bytes(destination)).map_err(|_| NoRandomness)?;
    request.signature = STANDARD.encode(signature);
    Ok(())
}

/// Whether a request to `destination` is signed.
///
/// # Errors
/// It is, but not with the source's `key`.
pub(super) fn verify_request(
    request: &HandshakeRequest,
    destination: &str,
    key: &PublicKey,
) -> Result<bool, WrongSignature> {
    verify(&request.signature, || request.signed_bytes(destination), key)
}

/// Signs what `destination` answers to `request`, with its `key`.
///
/// # Errors
/// See [`NoRandomness`].
pub(super) fn sign_answer(
    answer: &mut HandshakeResponse,
    request: &HandshakeRequest,
    destination: &str,
    key: &DomainKey,
) -> Result<(), NoRandomness> {
    let signature = key.sign(&answer.signed_bytes(request, destination)).map_err(|_| NoRandomness)?;
    answer.signature = STANDARD.encode(signature);
    Ok(())
}

/// Whether the answer of `destination` to `request` is signed.
///
/// # Errors
/// It is, but not with the destination's `key`.
pub(super) fn verify_answer(
    answer: &HandshakeResponse,
    request: &HandshakeRequest,
    destination: &str,
    key: &PublicKey,
) -> Result<bool, WrongSignature> {
    verify(&answer.signature, || answer.signed_bytes(request, destination), key)
}

fn verify(
    signature: &str,
    signed_bytes: impl FnOnce() -> Vec<u8>,
    key: &PublicKey,
) -> Result<bool, WrongSignature> {
    if signature.is_empty() {
        return Ok(false);
    }
    let signature = STANDARD.decode(signature).map_err(|_| WrongSignature)?;
    key.verify(&signed_bytes(), &signature).then_some(true).ok_or(WrongSignature)
}
