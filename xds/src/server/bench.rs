//! A client without a socket, for the benches of this crate.

use std::{collections::HashMap, time::Instant};

use bytes::BytesMut;
use jiff::Timestamp;

use super::message::{encode, encoded_len};
use crate::{
    cache::Cache,
    limits::Limits,
    resource::ResourceType,
    session::{Interest, Protocol, Rejections, Request, Session},
};

/// A client that accepts everything at once.
pub struct Client {
    cache: Cache,
    protocol: Protocol,
    session: Session,
    /// State-of-the-world: what every request repeats.
    names: HashMap<ResourceType, Vec<String>>,
}

impl Client {
    /// A client that has not asked for anything yet.
    pub fn new(cache: &Cache, protocol: Protocol) -> Self {
        let mut session = Session::new(protocol, Limits::default(), Rejections::default());
        session.update(cache.state());
        Self { cache: cache.clone(), protocol, session, names: HashMap::new() }
    }

    /// Asks for names of a type, or for all if there are none; in delta with the versions that it holds.
    pub fn ask(&mut self, ty: ResourceType, names: Vec<String>, held: HashMap<String, String>) {
        let interest = match self.protocol {
            Protocol::Delta => Interest::Change { subscribe: names, unsubscribe: Vec::new(), held },
            Protocol::StateOfTheWorld => {
                self.names.insert(ty, names.clone());
                Interest::Exactly(names)
            }
        };
        self.request(ty, String::new(), interest);
    }

    /// Takes and acknowledges, one by one, all that the server has to send. Returns how many bytes that was.
    pub fn take(&mut self) -> usize {
        self.session.update(self.cache.state());
        let mut bytes = 0;
        while let Some(response) = self.session.next(Instant::now()) {
            let mut message = BytesMut::with_capacity(encoded_len(self.protocol, &response));
            encode(self.protocol, &response, &mut message);
            bytes += message.len();
            let interest = match self.protocol {
                Protocol::Delta => {
                    Interest::Change { subscribe: Vec::new(), unsubscribe: Vec::new(), held: HashMap::new() }
                }
                Protocol::StateOfTheWorld => {
                    Interest::Exactly(self.names.get(&response.ty).cloned().unwrap_or_default())
                }
            };
            self.request(response.ty, response.nonce, interest);
        }
        bytes
    }

    fn request(&mut self, ty: ResourceType, nonce: String, interest: Interest) {
        let type_url = ty.type_url().to_owned();
        let request = Request { node: None, type_url, nonce, error: None, holds_nothing: false, interest };
        // Benches stay within the default limits.
        let _ = self.session.request(request, Timestamp::UNIX_EPOCH);
    }
}
