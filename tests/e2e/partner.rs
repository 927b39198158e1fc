//! A domain that runs no mesh: its gateway does Kuscia's handshake by hand.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certs::{DomainKey, PublicKey};
use networkmesh::harness::domain::Domain;
use networkmesh::http::{Limits, Target, send};
use serde_json::{Value, json};

const SHARE_BYTES: usize = 16;

pub(crate) struct Partner {
    pub(crate) name: &'static str,
    pub(crate) key: DomainKey,
}

impl Partner {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, key: DomainKey::generate().unwrap() }
    }

    pub(crate) fn public_key(&self) -> String {
        self.key.public_key().to_base64_pem()
    }

    /// Negotiates a token, with which the partner may then call `destination`. The error is the destination's message.
    pub(crate) async fn handshake(&self, destination: &Domain) -> Result<(String, i64), String> {
        let (share, answer) = ask_for_token(destination, self.name, self.key.public_key()).await;
        if answer["status"]["code"].as_i64().unwrap_or_default() != 0 {
            return Err(answer["status"]["message"].as_str().unwrap().to_owned());
        }
        let other_share = self.key.open(answer["token"]["token"].as_str().unwrap(), SHARE_BYTES).unwrap();
        let token = STANDARD.encode([&share[..], &other_share].concat());
        Ok((token, answer["token"]["revision"].as_i64().unwrap()))
    }
}

/// Asks for a token in the name of a source, which takes no more than its public key. Answers the source's share of the
/// token, and what the destination says.
pub(crate) async fn ask_for_token(
    destination: &Domain,
    source: &str,
    source_key: &PublicKey,
) -> ([u8; SHARE_BYTES], Value) {
    let mut share = [0; SHARE_BYTES];
    aws_lc_rs::rand::fill(&mut share).unwrap();
    let pem = source_key.to_pkcs1_pem();
    let request = json!({
        "domain_id": source,
        "type": "RSA",
        "token_config": {
            "token": destination.public_key.seal(&share).unwrap(),
            "pubhash": STANDARD.encode(digest::digest(&digest::SHA256, pem.as_bytes())),
        },
        "request_time": 1_700_000_000_000_000_000_i64,
    });
    let response = post_handshake(destination, source, request.to_string()).await;
    assert_eq!(response.status(), 200, "{response:?}");
    (share, serde_json::from_slice(response.body()).unwrap())
}

/// Sends anything to the handshake service of `destination`.
pub(crate) async fn post_handshake(destination: &Domain, source: &str, body: String) -> Response<Bytes> {
    let host = format!("kuscia-handshake.{}.svc", destination.name);
    let mut post = Request::post("/handshake").header("content-type", "application/json");
    post.headers_mut().unwrap().extend(headers(source, &host, None));
    let post = post.body(body.into()).unwrap();
    send(&Target::Tcp(destination.addresses.external), post, Limits::default()).await.unwrap()
}

/// The headers with which a gateway of `source` asks for `host`.
pub(crate) fn headers(source: &str, host: &str, token: Option<&str>) -> HeaderMap {
    let all = [
        ("host", Some(host)),
        ("kuscia-host", Some(host)),
        ("kuscia-source", Some(source)),
        ("kuscia-token", token),
    ];
    let given = all.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(value?).unwrap()))
    });
    given.collect()
}
