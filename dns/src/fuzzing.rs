//! A door for fuzz targets, which are outside of this crate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hickory_server::net::xfer::Protocol;

use crate::fast::{Query, Responder};
use crate::forward::{Settings as ForwardSettings, Upstreams};
use crate::handler::{Handler, Outcome};
use crate::intake::{MAX_REQUEST, Received, read};
use crate::query_log::QueryLog;
use crate::reply::MAX_UDP_PAYLOAD;
use crate::server::Settings;
use crate::table::Names;

/// A server without sockets, whose only client may not ask for names of others.
pub struct Server {
    handler: Handler,
    responder: Responder,
}

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4242);

impl Server {
    /// Answers from these names.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn new(names: Names) -> Result<Self, getrandom::Error> {
        let forward =
            ForwardSettings { upstreams: Upstreams::Servers(Vec::new()), ..ForwardSettings::default() };
        let settings = Settings {
            recursion: Vec::new().into(),
            forward,
            responses_per_second: None,
            ..Settings::default()
        };
        let responder = Responder::new(&names.read());
        let handler = Handler::new(settings, CLIENT, names, Arc::default(), QueryLog::default())?;
        Ok(Self { handler, responder })
    }

    /// What is answered to a packet without decoding all of it, if it is plain enough.
    pub fn answer_fast(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let query = Query::read(packet)?;
        let mut response = [0; MAX_UDP_PAYLOAD as usize];
        let names = self.handler.names.read();
        let written = self.responder.answer(&query, &names, false, &mut response)?;
        response.get(..written.length).map(<[u8]>::to_vec)
    }

    /// What is answered to a packet that is not plain enough; `None`: nothing.
    pub fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let packet = &packet[..packet.len().min(MAX_REQUEST)];
        match read(packet, CLIENT, Protocol::Udp) {
            Received::Noise => None,
            Received::Malformed(response) => Some(response.to_vec()),
            Received::Request(request) => {
                let client = self.handler.client(CLIENT);
                match self.handler.outcome(&request, &client) {
                    Outcome::Reply(reply) => {
                        Some(self.handler.finish(&request, &client, reply, Instant::now()))
                    }
                    Outcome::Forward(_) => None,
                }
            }
        }
    }
}

/// Whether both have the same names with the same records, whatever their serial numbers.
pub fn same_names(one: &Names, other: &Names) -> bool {
    one.read().equals(&other.read())
}
