//! The way from a reply to a DNS message: header, EDNS(0), truncation.

use hickory_proto::op::{Edns, LowerQuery, Metadata, ResponseCode, emit_message_parts};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

use crate::query_log::How;

/// The largest message sent and asked for over UDP: what passes nearly every path in one piece (DNS flag day 2020).
pub(crate) const MAX_UDP_PAYLOAD: u16 = 1232;

/// What a query gets.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    /// Whether this server speaks for the name.
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub(crate) authority: Vec<Record>,
    /// What the client will ask for next. It is left out where there is no room for it.
    pub(crate) additional: Vec<Record>,
    /// What the code does not tell, for clients that speak EDNS(0).
    pub(crate) extended_error: Option<ExtendedError>,
    /// Whether the client has to ask again over TCP.
    pub(crate) truncated: bool,
    /// Where it comes from.
    pub(crate) how: How,
}

/// The extended DNS errors (RFC 8914, 4) of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtendedError {
    StaleAnswer = 3,
    CachedError = 13,
    Filtered = 17,
    StaleNxDomain = 19,
    NoReachableAuthority = 22,
}

/// The EDNS(0) option of extended errors (RFC 8914, 2).
const EXTENDED_ERROR: u16 = 15;

impl Reply {
    /// A reply without records.
    pub(crate) fn error(code: ResponseCode) -> Self {
        let how = if code == ResponseCode::Refused { How::Refused } else { How::Failed };
        Self { code, how, ..Self::default() }
    }

    /// The reply to the question that these records led away from.
    pub(crate) fn behind(mut self, aliases: Vec<Record>) -> Self {
        // The name that was asked for is the first one (RFC 1035, 4.1.1).
        self.authoritative |= !aliases.is_empty();
        self.answers.splice(..0, aliases);
        self
    }

    /// A reply that says nothing but to ask again over TCP.
    pub(crate) fn limited() -> Self {
        Self { truncated: true, how: How::Limited, ..Self::default() }
    }

    /// The response to `request`, cut to what its client takes. `edns` is the OPT record for clients that sent one.
    pub(crate) fn encode(
        mut self,
        request: &Request,
        recursion_available: bool,
        mut edns: Option<Edns>,
    ) -> Vec<u8> {
        if let (Some(edns), Some(error)) = (&mut edns, self.extended_error) {
            let info_code = (error as u16).to_be_bytes().to_vec();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, info_code));
        }
        let edns = edns.as_ref();
        let (whole, fits) = self.emit(request, recursion_available, edns);
        if fits {
            return whole;
        }
        self.additional.clear();
        let (without_additional, fits) = self.emit(request, recursion_available, edns);
        if fits || request.protocol() != Protocol::Udp {
            return without_additional;
        }
        // The library fills the message and leaves no room for OPT, which RFC 6891, 6.1.1 demands. Clients ignore what
        // is in a truncated message anyway (RFC 2181, 9).
        self.answers.clear();
        self.authority.clear();
        self.truncated = true;
        self.emit(request, recursion_available, edns).0
    }

    /// The message as far as it fits, and whether all of it does.
    fn emit(&self, request: &Request, recursion_available: bool, edns: Option<&Edns>) -> (Vec<u8>, bool) {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = self.code;
        metadata.authoritative = self.authoritative;
        metadata.recursion_available = recursion_available;
        metadata.truncation = self.truncated;
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(match request.protocol() {
            Protocol::Udp => request.max_payload().min(MAX_UDP_PAYLOAD),
            _ => u16::MAX,
        });
        // The server library's own way of writing a response repeats the question's name.
        let sent = emit_message_parts(
            &metadata,
            &mut request.queries.queries().iter().map(LowerQuery::original),
            &mut self.answers.iter(),
            &mut self.authority.iter(),
            &mut self.additional.iter(),
            edns,
            None,
            &mut encoder,
        );
        let fits = sent.is_ok_and(|sent| sent.metadata.truncation == self.truncated);
        (bytes, fits)
    }
}
