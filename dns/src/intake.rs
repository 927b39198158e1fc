//! From bytes to requests.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Header, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, DecodeError};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

/// What came.
pub(crate) enum Received {
    /// A request.
    Request(Box<Request>),
    /// No request can be read, but the header is there: this says so.
    Malformed([u8; HEADER]),
    /// A response, or less than a header: an answer would only serve attackers.
    Noise,
}

/// The longest request that is read; no known kind of query comes near.
pub(crate) const MAX_REQUEST: usize = 4096;

/// The header that every message begins with, in bytes (RFC 1035, 4.1.1).
pub(crate) const HEADER: usize = 12;

/// QR of the third byte.
const RESPONSE: u8 = 1 << 7;

/// Opcode and RD of the third byte.
const COPIED: u8 = 0b0111_1001;

const FORMERR: u8 = 1;

/// Of a record, in bytes (RFC 1035, 4.1.3).
const CLASS_AND_TTL: usize = 6;

/// Reads a message from `source`.
pub(crate) fn read(message: &[u8], source: SocketAddr, protocol: Protocol) -> Received {
    let Some(&[id1, id2, flags, _, questions @ .., _, _, _, _, _, _]) = message.first_chunk::<HEADER>()
    else {
        return Received::Noise;
    };
    if flags & RESPONSE != 0 {
        return Received::Noise;
    }
    // Nobody answers several questions (RFC 9619), and the decoder would make room for as many as the header promises.
    let request = (u16::from_be_bytes(questions) <= 1)
        .then(|| Request::from_bytes(message.to_vec(), source, protocol).ok())
        .flatten()
        .filter(|request| !has_cut_option(request));
    match request {
        Some(request) => Received::Request(Box::new(request)),
        None => {
            let mut response = [0; HEADER];
            response[..4].copy_from_slice(&[id1, id2, RESPONSE | (flags & COPIED), FORMERR]);
            Received::Malformed(response)
        }
    }
}

/// Whether an option of EDNS(0) is cut short. The decoder then passes over all of them.
fn has_cut_option(request: &Request) -> bool {
    let has_none = request.edns.as_ref().is_some_and(|edns| edns.options().as_ref().is_empty());
    has_none && options_length(request.as_slice()).is_ok_and(|length| length > 0)
}

/// How many bytes the options of a message take.
fn options_length(message: &[u8]) -> Result<u16, DecodeError> {
    let mut decoder = BinDecoder::new(message);
    let counts = Header::read(&mut decoder)?.counts;
    for _ in 0..counts.queries {
        Query::read(&mut decoder)?;
    }
    let records = [counts.answers, counts.authorities, counts.additionals];
    for _ in 0..records.into_iter().map(usize::from).sum() {
        Name::read(&mut decoder)?;
        let record_type = RecordType::read(&mut decoder)?;
        decoder.read_slice(CLASS_AND_TTL)?;
        let length = decoder.read_u16()?.unverified(/* a slice of it is read */);
        if record_type == RecordType::OPT {
            return Ok(length);
        }
        decoder.read_slice(length.into())?;
    }
    Ok(0)
}

/// Whether a packet to this address can be meant for a client.
pub(crate) fn is_answerable(source: SocketAddr) -> bool {
    let nobody = match source.ip().to_canonical() {
        IpAddr::V4(address) => address.is_unspecified() || address.is_broadcast() || address.is_multicast(),
        IpAddr::V6(address) => address.is_unspecified() || address.is_multicast(),
    };
    source.port() != 0 && !nobody
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::NULL;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    const CLIENT: &str = "192.0.2.1:4242";

    fn received(message: &[u8]) -> Received {
        read(message, CLIENT.parse().unwrap(), Protocol::Udp)
    }

    fn query() -> Message {
        let mut query = Message::query();
        query.metadata.id = 0xabcd;
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii("web.alice.svc.").unwrap(), RecordType::A));
        query
    }

    #[test]
    fn noise_gets_no_answer() {
        let query = query().to_vec().unwrap();
        for length in 0..HEADER {
            assert!(matches!(received(&query[..length]), Received::Noise), "{length}");
        }
        let mut response = query;
        response[2] |= RESPONSE;
        assert!(matches!(received(&response), Received::Noise));
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_its_id_opcode_and_rd() {
        let mut cut = query();
        cut.metadata.op_code = OpCode::Notify;
        let mut cut = cut.to_vec().unwrap();
        cut.pop();
        let mut promising = query().to_vec().unwrap();
        promising[4..6].copy_from_slice(&[0xff, 0xff]);
        for (message, op_code) in [(cut, OpCode::Notify), (promising, OpCode::Query)] {
            let Received::Malformed(response) = received(&message) else { panic!("it was read") };
            let response = Message::from_vec(&response).unwrap();
            assert_eq!(response.metadata.id, 0xabcd);
            assert_eq!(response.metadata.op_code, op_code);
            assert_eq!(response.metadata.response_code, ResponseCode::FormErr);
            assert!(response.metadata.recursion_desired);
            assert!(response.queries.is_empty());
        }
    }

    #[test]
    fn an_option_that_is_cut_short_is_malformed() {
        let with_options = |options: &[u8]| {
            let mut query = query();
            query.add_authority(Record::from_rdata(Name::root(), 0, RData::NULL(NULL::with(vec![7; 9]))));
            let mut query = query.to_vec().unwrap();
            query[11] = 1;
            let length = u16::try_from(options.len()).unwrap().to_be_bytes();
            query.extend([&[0, 0, 41, 4, 208, 0, 0, 0, 0], &length[..], options].concat());
            query
        };
        for whole in [&b""[..], b"\xfd\xe9\0\0", b"\xfd\xe9\0\x01x\0\x03\0\0"] {
            assert!(matches!(received(&with_options(whole)), Received::Request(_)), "{whole:?}");
        }
        for cut in [&b"\xfd"[..], b"\xfd\xe9\0", b"\xfd\xe9\0\x02x", b"\0\x03\0\0\xfd\xe9\0\x02x"] {
            assert!(matches!(received(&with_options(cut)), Received::Malformed(_)), "{cut:?}");
        }
    }

    #[test]
    fn nobody_is_at_port_0_or_the_addresses_of_all_and_none() {
        assert!(is_answerable(CLIENT.parse().unwrap()));
        assert!(is_answerable("[2001:db8::1]:53".parse().unwrap()));
        for source in [
            "192.0.2.1:0",
            "0.0.0.0:53",
            "255.255.255.255:53",
            "224.0.0.251:5353",
            "[::]:53",
            "[::ffff:0.0.0.0]:53",
            "[ff02::fb]:5353",
            "[2001:db8::1]:0",
        ] {
            assert!(!is_answerable(source.parse().unwrap()), "{source}");
        }
    }
}
