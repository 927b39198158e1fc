//! Whatever packet comes, what is answered is a response to it, and both ways through the server answer the same.
#![no_main]

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dns::fuzzing::Server;
use dns::{NameChange, Names, ZoneSettings};
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use model::{Host, HostPort, Service};

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new(names()).expect("random numbers"));
}

const HEADER: usize = 12;
const RESPONSE: u8 = 1 << 7;

/// The most that is sent over UDP.
const MAX_PAYLOAD: usize = 1232;

fuzz_target!(|packet: &[u8]| {
    SERVER.with_borrow_mut(|server| {
        let whole = server.answer(packet);
        let is_noise = packet.len() < HEADER || packet[2] & RESPONSE != 0;
        assert_eq!(whole.is_none(), is_noise, "who is answered");
        let whole = whole.map(|response| read(packet, &response));
        if let Some(fast) = server.answer_fast(packet) {
            assert_eq!(Some(read(packet, &fast)), whole, "the two ways");
        }
    });
});

/// A response, its answers sorted: which comes first is a matter of turns.
fn read(packet: &[u8], response: &[u8]) -> Message {
    assert!(response.len() <= MAX_PAYLOAD, "{} bytes", response.len());
    assert_eq!(response[..2], packet[..2], "id");
    assert_ne!(response[2] & RESPONSE, 0, "the bit of responses");
    assert_eq!((response[2] ^ packet[2]) & 0b0111_1000, 0, "opcode");
    let mut message = Message::from_vec(response).expect("a message");
    if let Some(asked) = question(packet).filter(|_| !message.queries.is_empty()) {
        assert_eq!(question(response), Some(asked), "the question");
    }
    message.answers.sort_by_key(|record| record.to_string());
    message
}

/// The bytes of name, type and class, unless the name is compressed.
fn question(message: &[u8]) -> Option<&[u8]> {
    let question = message.get(HEADER..)?;
    let mut length = 0;
    loop {
        match *question.get(length)? {
            0 => return question.get(..length + 5),
            label @ 1..=63 => length += 1 + usize::from(label),
            _ => return None,
        }
    }
}

/// A service of each kind, and a route.
fn names() -> Names {
    let names = Names::new(&ZoneSettings {
        domain: "alice".parse().expect("a domain"),
        gateway: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
        gateway_port: 80,
        ttl: Duration::from_secs(5),
    });
    let host = |host| Some(Box::new(HostPort { host, port: 80 }));
    let many: Vec<String> = (0..100).map(|last| format!("10.2.0.{last}:80")).collect();
    let services = [
        service("web", &["10.1.0.1:80", "10.1.0.2:80", "[2001:db8::1]:80"]),
        service("many", &many.iter().map(String::as_str).collect::<Vec<_>>()),
        service("down", &[]),
        Service { through_gateway: true, ..service("inner", &["10.1.0.3:80"]) },
        Service { external: host(Host::Name("db.example".to_owned())), ..service("db", &[]) },
        Service { external: host(Host::Name("web.alice.svc".to_owned())), ..service("alias", &[]) },
        Service { external: host(Host::Name("loop.alice.svc".to_owned())), ..service("loop", &[]) },
        Service {
            external: host(Host::Address(Ipv4Addr::new(192, 0, 2, 2).into())),
            ..service("fixed", &[])
        },
    ];
    names.apply(services.into_iter().map(|service| NameChange::Service(Arc::new(service))));
    names.apply([NameChange::Route("bob".parse().expect("a domain"))]);
    names
}

fn service(name: &str, endpoints: &[&str]) -> Service {
    Service {
        port_name: "http".into(),
        ..Service::new(
            name.parse().expect("a name"),
            endpoints.iter().map(|endpoint| endpoint.parse().expect("an address")).collect(),
        )
    }
}
