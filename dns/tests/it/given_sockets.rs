//! Sockets that the service manager opened.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use hickory_proto::rr::RecordType;
use networkmesh_dns::{Bound, QueryLog};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::support::{LOOPBACK, addresses, alone, ask, domain, exchange_tcp, query};

/// Makes descriptors 3 and 4 of its own 0 and 1, and tells the program so (sd_listen_fds(3)).
const GIVE: &str = r#"
exec 3<&0 4<&1 0</dev/null 1>&2
export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=dns:dns
exec "$0" "$@"
"#;

#[tokio::test]
async fn a_server_answers_on_sockets_that_it_is_given() {
    let udp = UdpSocket::bind(LOOPBACK).unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    let _server = Command::new("sh")
        .args(["-c", GIVE])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "given_sockets::the_server_that_is_given_sockets"])
        .stdin(OwnedFd::from(udp))
        .stdout(OwnedFd::from(tcp))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let reply = ask(address, "web.alice.svc.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let reply = exchange_tcp(&mut stream, &query("web.alice.svc.", RecordType::A)).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
}

#[tokio::test]
#[ignore = "runs as a process of the test above"]
async fn the_server_that_is_given_sockets() {
    let bound = Bound::from_environment().unwrap().expect("sockets are given");
    let names = domain("alice", &[("web", &["192.0.2.1"])]);
    let forever = CancellationToken::new();
    bound.serve(alone(), names, std::sync::Arc::default(), QueryLog::default(), forever).await.unwrap();
}
