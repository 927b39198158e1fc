//! The way from a reply to a DNS message: header, EDNS(0), truncation.

use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tracing::debug;

/// The largest message sent over UDP: what passes nearly every path in one piece (DNS flag day 2020).
const MAX_UDP_PAYLOAD: u16 = 1232;

/// So many addresses fit into 512 bytes, whatever the length of their name: 12 of header, 259 of question, 28 for each
/// address of IPv6, 11 of OPT.
const ALWAYS_FIT: usize = 8;

/// What a query gets.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    /// Whether this server speaks for the name.
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub(crate) authority: Vec<Record>,
}

impl Reply {
    /// A reply without records.
    pub(crate) fn error(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    /// Sends it to the client of `request`, cut to what that client takes.
    pub(crate) async fn send<R: ResponseHandler>(
        mut self,
        request: &Request,
        recursion_available: bool,
        mut handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = self.code;
        metadata.authoritative = self.authoritative;
        metadata.recursion_available = recursion_available;
        let edns = request.edns.as_ref().map(edns_reply);

        if request.protocol() == Protocol::Udp && self.overflows(request, metadata, edns.as_ref()) {
            // The server library would fill the message and leave no room for OPT, which RFC 6891, 6.1.1 demands.
            // Clients ignore what is in a truncated message anyway (RFC 2181, 9).
            self.answers.clear();
            self.authority.clear();
            metadata.truncation = true;
        }
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &self.answers,
            &self.authority,
            [],
            [],
        );
        handle.send_response(response).await.unwrap_or_else(|error| {
            debug!(%error, client = %request.src(), "cannot send a response");
            Header { metadata, counts: HeaderCounts::default() }.into()
        })
    }

    fn overflows(&self, request: &Request, metadata: Metadata, edns: Option<&Edns>) -> bool {
        if self.authoritative && self.answers.len() <= ALWAYS_FIT {
            return false;
        }
        let mut bytes = Vec::new();
        let encoded = MessageResponseBuilder::new(&request.queries, edns)
            .build(metadata, &self.answers, &self.authority, [], [])
            .destructive_emit(&mut BinEncoder::new(&mut bytes));
        encoded.is_err() || bytes.len() > usize::from(edns.map_or(512, Edns::max_payload))
    }
}

/// The OPT record that answers a client's one. Its payload size is what the server library cuts UDP messages to.
fn edns_reply(client: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(client.max_payload().min(MAX_UDP_PAYLOAD));
    edns.set_dnssec_ok(client.flags().dnssec_ok);
    edns
}
