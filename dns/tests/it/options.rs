//! EDNS(0) options: cookies and the server's identifier.

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use networkmesh_dns::Settings;
use tokio::net::TcpStream;

use crate::support::{Server, addresses, alone, domain, exchange_tcp, exchange_udp, query};

const COOKIE: [u8; 8] = *b"8 bytes.";

fn with_option(mut query: Message, option: EdnsOption) -> Message {
    query.edns.get_or_insert_with(Edns::new).options_mut().insert(option);
    query
}

pub(crate) fn with_cookie(query: Message, cookie: &[u8]) -> Message {
    with_option(query, EdnsOption::Unknown(EdnsCode::Cookie.into(), cookie.into()))
}

fn option(reply: &Message, code: EdnsCode) -> Option<Vec<u8>> {
    match reply.edns.as_ref()?.option(code)? {
        EdnsOption::Unknown(_, bytes) => Some(bytes.clone()),
        EdnsOption::NSID(payload) => Some(payload.as_ref().into()),
        other => panic!("{other:?}"),
    }
}

/// A cookie that the server gives.
pub(crate) async fn learn_cookie(server: &Server) -> Vec<u8> {
    let question = with_cookie(query("web.", RecordType::A), &COOKIE);
    option(&exchange_udp(server.address, &question).await, EdnsCode::Cookie).unwrap()
}

async fn alice(settings: Settings) -> Server {
    Server::start(domain("alice", &[("web", &["192.0.2.1"])]), settings).await
}

#[tokio::test]
async fn a_client_with_a_cookie_gets_one_of_the_server_with_the_answer() {
    let server = alice(alone()).await;
    let cookie = learn_cookie(&server).await;
    assert_eq!((cookie.len(), &cookie[..8]), (24, &COOKIE[..]));
    let again = with_cookie(query("web.", RecordType::A), &cookie);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for reply in [exchange_udp(server.address, &again).await, exchange_tcp(&mut stream, &again).await] {
        assert_eq!(addresses(&reply), ["192.0.2.1"]);
        assert_eq!(option(&reply, EdnsCode::Cookie).unwrap().len(), 24);
    }
    let without = exchange_udp(server.address, &query("web.", RecordType::A)).await;
    assert_eq!(without.edns, None);
}

#[tokio::test]
async fn a_query_without_a_question_asks_for_a_cookie() {
    let server = alice(alone()).await;
    let reply = exchange_udp(server.address, &with_cookie(Message::query(), &COOKIE)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(option(&reply, EdnsCode::Cookie).unwrap().len(), 24);
}

#[tokio::test]
async fn a_cookie_with_the_length_of_none_is_malformed() {
    let server = alice(alone()).await;
    for length in [0, 7, 9, 15, 41] {
        let question = with_cookie(query("web.", RecordType::A), &vec![1; length]);
        let reply = exchange_udp(server.address, &question).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{length}");
        assert_eq!(option(&reply, EdnsCode::Cookie), None, "{length}");
    }
}

#[tokio::test]
async fn clients_that_may_recurse_and_ask_learn_which_server_it_is() {
    let settings = Settings { nsid: Some("mesh-1".into()), ..alone() };
    let server = alice(settings.clone()).await;
    let plain = query("web.", RecordType::A);
    let asks = with_option(plain.clone(), EdnsOption::Unknown(EdnsCode::NSID.into(), Vec::new()));
    let reply = exchange_udp(server.address, &asks).await;
    assert_eq!(option(&reply, EdnsCode::NSID).unwrap(), b"mesh-1");
    let silent = exchange_udp(server.address, &with_cookie(plain, &COOKIE)).await;
    assert_eq!(option(&silent, EdnsCode::NSID), None);

    let for_strangers = alice(Settings { recursion: Vec::new().into(), ..settings }).await;
    let reply = exchange_udp(for_strangers.address, &asks).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
    assert_eq!(option(&reply, EdnsCode::NSID), None);
}
