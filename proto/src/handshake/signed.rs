//! The bytes that both sides of a handshake sign, as the module above lays them out.

use super::{HandshakeKind, HandshakeRequest, HandshakeResponse};

const REQUEST_LABEL: &str = "networkmesh handshake request v2";
const RESPONSE_LABEL: &str = "networkmesh handshake response v2";

impl HandshakeRequest {
    /// What the source signs when it sends this request to the domain `destination`. In this order:
    ///
    /// | part | content |
    /// |---|---|
    /// | text | `networkmesh handshake request v2` |
    /// | text | `domain_id`, the source |
    /// | text | the destination |
    /// | text | `type` |
    /// | option | `token_config`: text `token`, number `revision`, text `pubhash` |
    /// | number | `request_time` |
    /// | text | `nonce` |
    ///
    /// [`handshake`](crate::handshake) says what these parts look like.
    #[must_use]
    pub fn signed_bytes(&self, destination: &str) -> Vec<u8> {
        let mut bytes = Bytes::default();
        bytes.text(REQUEST_LABEL).text(&self.domain_id).text(destination).text(self.kind.as_str());
        bytes.option(self.token_config.as_ref(), |bytes, config| {
            bytes.text(&config.token.0).number(config.revision).text(&config.pubhash);
        });
        bytes.number(self.request_time).text(&self.nonce);
        bytes.0
    }
}

impl HandshakeResponse {
    /// What the domain `destination` signs when it answers `request` so, be it a success or a refusal. In this order:
    ///
    /// | part | content |
    /// |---|---|
    /// | text | `networkmesh handshake response v2` |
    /// | number | length of [`HandshakeRequest::signed_bytes`] of the request |
    /// | bytes | these themselves |
    /// | option | `status`: number `code`, text `message`, text `reason` |
    /// | option | `token`: text `token`, number `expiration_time`, number `revision` |
    /// | number | `last_request_time` |
    ///
    /// [`handshake`](crate::handshake) says what these parts look like.
    #[must_use]
    pub fn signed_bytes(&self, request: &HandshakeRequest, destination: &str) -> Vec<u8> {
        let mut bytes = Bytes::default();
        bytes.text(RESPONSE_LABEL).bytes(&request.signed_bytes(destination));
        bytes.option(self.status.as_ref(), |bytes, status| {
            bytes.number(status.code.into()).text(&status.message).text(&status.reason);
        });
        bytes.option(self.token.as_ref(), |bytes, token| {
            bytes.text(&token.token.0).number(token.expiration_time).number(token.revision.into());
        });
        bytes.number(self.last_request_time);
        bytes.0
    }
}

impl HandshakeKind {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rsa => "RSA",
            Self::Uid => "UID",
            Self::Other(name) => name,
        }
    }
}

/// The parts written so far.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn number(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn option<T>(&mut self, value: Option<&T>, parts: impl FnOnce(&mut Self, &T)) {
        self.number(value.is_some().into());
        if let Some(value) = value {
            parts(self, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::handshake::{Ciphertext, Status, Token, TokenConfig};

    fn request() -> HandshakeRequest {
        HandshakeRequest {
            domain_id: "alice".into(),
            kind: HandshakeKind::Rsa,
            token_config: Some(TokenConfig {
                token: Ciphertext("c2VjcmV0".into()),
                revision: 3,
                pubhash: "aGFzaA==".into(),
            }),
            request_time: 1_700_000_000_123_456_789,
            nonce: "AAECAwQFBgcICQoLDA0ODw==".into(),
            signature: String::new(),
        }
    }

    fn response() -> HandshakeResponse {
        HandshakeResponse {
            status: Some(Status::default()),
            token: Some(Token { token: Ciphertext("eA==".into()), expiration_time: 7, revision: 4 }),
            ..HandshakeResponse::default()
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of [`request`] to bob.
    const REQUEST: &str = concat!(
        "00000000000000206e6574776f726b6d6573682068616e647368616b652072657175657374207632",
        "0000000000000005616c696365",
        "0000000000000003626f62",
        "0000000000000003525341",
        "0000000000000001",
        "00000000000000086332566a636d5630",
        "0000000000000003",
        "00000000000000086147467a61413d3d",
        "17979cfe3d85cd15",
        "000000000000001841414543417751464267634943516f4c4441304f44773d3d",
    );

    #[test]
    fn a_request_has_the_documented_bytes() {
        assert_eq!(hex(&request().signed_bytes("bob")), REQUEST);
    }

    #[test]
    fn a_uid_request_without_a_share_has_the_documented_bytes() {
        let uid = HandshakeRequest {
            domain_id: "a".into(),
            kind: HandshakeKind::Uid,
            request_time: -1,
            ..HandshakeRequest::default()
        };
        assert_eq!(
            hex(&uid.signed_bytes("b")),
            concat!(
                "00000000000000206e6574776f726b6d6573682068616e647368616b652072657175657374207632",
                "000000000000000161",
                "000000000000000162",
                "0000000000000003554944",
                "0000000000000000",
                "ffffffffffffffff",
                "0000000000000000",
            )
        );
    }

    #[test]
    fn a_success_has_the_documented_bytes() {
        assert_eq!(
            hex(&response().signed_bytes(&request(), "bob")),
            [
                "00000000000000216e6574776f726b6d6573682068616e647368616b6520726573706f6e7365207632",
                "00000000000000a3",
                REQUEST,
                "0000000000000001",
                "0000000000000000",
                "0000000000000000",
                "0000000000000000",
                "0000000000000001",
                "000000000000000465413d3d",
                "0000000000000007",
                "0000000000000004",
                "0000000000000000",
            ]
            .concat()
        );
    }

    #[test]
    fn a_refusal_has_the_documented_bytes() {
        let refusal = HandshakeResponse {
            status: Some(Status { code: 500, message: "too late: é".into(), reason: "Late".into() }),
            last_request_time: 258,
            ..HandshakeResponse::default()
        };
        assert_eq!(
            hex(&refusal.signed_bytes(&request(), "bob")),
            [
                "00000000000000216e6574776f726b6d6573682068616e647368616b6520726573706f6e7365207632",
                "00000000000000a3",
                REQUEST,
                "0000000000000001",
                "00000000000001f4",
                "000000000000000c746f6f206c6174653a20c3a9",
                "00000000000000044c617465",
                "0000000000000000",
                "0000000000000102",
            ]
            .concat()
        );
    }

    #[test]
    fn every_field_of_a_request_changes_its_bytes() {
        fn config(request: &mut HandshakeRequest) -> &mut TokenConfig {
            request.token_config.as_mut().expect("present")
        }
        let changes: [fn(&mut HandshakeRequest); 10] = [
            |_| {},
            |request| request.domain_id = "alicf".into(),
            |request| request.kind = HandshakeKind::Uid,
            |request| request.token_config = None,
            |request| request.token_config = Some(TokenConfig::default()),
            |request| config(request).token.0.push('='),
            |request| config(request).revision = -3,
            |request| config(request).pubhash.clear(),
            |request| request.request_time += 1,
            |request| request.nonce.clear(),
        ];
        let of = |change: fn(&mut HandshakeRequest)| {
            let mut request = request();
            change(&mut request);
            request.signed_bytes("bob")
        };
        let mut distinct: BTreeSet<Vec<u8>> = changes.into_iter().map(of).collect();
        assert_eq!(distinct.len(), changes.len());
        assert!(distinct.insert(request().signed_bytes("carol")), "another destination");
    }

    #[test]
    fn every_field_of_a_response_and_of_its_request_changes_its_bytes() {
        fn token(response: &mut HandshakeResponse) -> &mut Token {
            response.token.as_mut().expect("present")
        }
        let changes: [fn(&mut HandshakeResponse); 11] = [
            |_| {},
            |response| response.status = None,
            |response| response.status.as_mut().expect("present").code = 1,
            |response| response.status.as_mut().expect("present").message.push('x'),
            |response| response.status.as_mut().expect("present").reason.push('x'),
            |response| response.token = None,
            |response| response.token = Some(Token::default()),
            |response| token(response).token.0.clear(),
            |response| token(response).expiration_time += 1,
            |response| token(response).revision += 1,
            |response| response.last_request_time = 1,
        ];
        let of = |change: fn(&mut HandshakeResponse)| {
            let mut response = response();
            change(&mut response);
            response.signed_bytes(&request(), "bob")
        };
        let mut distinct: BTreeSet<Vec<u8>> = changes.into_iter().map(of).collect();
        assert_eq!(distinct.len(), changes.len());
        let other = HandshakeRequest { nonce: "other".into(), ..request() };
        assert!(distinct.insert(response().signed_bytes(&other, "bob")), "another request");
        assert!(distinct.insert(response().signed_bytes(&request(), "carol")), "another destination");
    }

    #[test]
    fn what_moves_from_one_field_to_the_next_changes_the_bytes() {
        let named = |source: &str| HandshakeRequest { domain_id: source.into(), ..request() };
        assert_ne!(named("ab").signed_bytes("c"), named("a").signed_bytes("bc"));
    }

    #[test]
    fn signatures_are_not_signed() {
        let signed = HandshakeRequest { signature: "c2ln".into(), ..request() };
        assert_eq!(signed.signed_bytes("bob"), request().signed_bytes("bob"));
        let answer = HandshakeResponse { signature: "c2ln".into(), ..response() };
        assert_eq!(answer.signed_bytes(&signed, "bob"), response().signed_bytes(&request(), "bob"));
    }
}
