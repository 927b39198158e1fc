//! Clients that come back, and states that come back.

use super::*;

#[test]
fn a_client_that_comes_back_is_sent_the_difference() {
    let mut stream = delta(&[(Clusters, "same", "1"), (Clusters, "changed", "2"), (Clusters, "new", "1")]);
    let held = [("same", "1"), ("changed", "1"), ("gone", "1")];
    stream.change(Clusters, &[], &[], &held);
    assert_eq!(stream.settle(), ["Cluster changed=2 new=1", "Cluster -gone"]);
    stream.reconnect();
    stream.change(Clusters, &["*"], &[], &[("same", "1"), ("changed", "2"), ("new", "1")]);
    stream.change(Routes, &[], &[], &[("not wanted any more", "1")]);
    assert_eq!(stream.holds(Clusters, "changed"), Some(Some(version("2"))));
    assert_eq!(stream.settle(), [""; 0]);
    stream.reconnect();
    stream.change(Clusters, &[], &[], &[("same", "1"), ("changed", "2"), ("new", "1")]);
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn versions_of_another_server_are_replaced() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    let held = HashMap::from([("a".to_owned(), "v1".to_owned())]);
    let interest = Interest::Change { subscribe: vec![], unsubscribe: vec![], held };
    stream.request(Clusters, "left over from the last stream", None, interest).expect("within the limits");
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn a_rejection_outlives_the_stream() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "b", "bad");
    stream.settle_but("no", is_bad);
    stream.reconnect();
    stream.change(Clusters, &[], &[], &[("a", "1"), ("b", "1")]);
    assert_eq!(stream.settle(), [""; 0]);
    stream.reconnect();
    stream.subscribe(Clusters, &[]);
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"], "a client that lost the good version gets it again");
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"]);
    assert_eq!(stream.session.status()[&Clusters].resources["b"].nack, None);
}

#[test]
fn a_list_keeps_the_last_good_version_at_a_client_that_comes_back() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.apply([
        Change::Set(Clusters, "b".to_owned(), Bytes::from("bad")),
        Change::Set(Clusters, "c".to_owned(), Bytes::from("bad")),
    ]);
    stream.settle_but("no", is_bad);
    for body in ["bad", "still bad"] {
        stream.set(Clusters, "b", body);
        stream.reconnect();
        stream.ask(Clusters, &[], "");
        let shown =
            stream.settle_but("Error adding/updating cluster(s) b: no", |it| it.body().ends_with(b"bad"));
        assert_eq!(shown.last().map(String::as_str), Some("Cluster a=1 b=1"), "{shown:?}");
    }
}

#[test]
fn a_version_that_was_good_once_is_not_insisted_on() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "a", "2");
    stream.settle_but("no", |_| true);
    stream.reconnect();
    stream.subscribe(Clusters, &[]);
    assert_eq!(stream.settle_but("no", |_| true), ["Cluster a=1", "Cluster a=2"]);
}

#[test]
fn what_is_gone_is_not_rejected_by_a_client_that_comes_back() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Listeners, "b", "bad")]);
    stream.subscribe(Listeners, &[]);
    stream.settle_but("port in use", is_bad);
    assert!(!stream.rejections.is_empty());
    stream.cache.apply([Change::Remove(Listeners, "b".to_owned())]);
    stream.reconnect();
    assert!(stream.rejections.is_empty());
}

#[test]
fn a_new_process_is_sent_what_the_last_one_rejected() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Listeners, "b", "bad")]);
    stream.subscribe(Clusters, &[]);
    stream.subscribe(Listeners, &[]);
    stream.settle_but("port in use", is_bad);
    stream.reconnect();
    stream.subscribe(Listeners, &[]);
    let interest = Interest::Change { subscribe: vec![], unsubscribe: vec![], held: HashMap::new() };
    let type_url = Clusters.type_url().to_owned();
    let nonce = String::new();
    let first = Request { node: None, type_url, nonce, error: None, holds_nothing: true, interest };
    for _ in 0..2 {
        stream.session.request(first.clone(), Timestamp::UNIX_EPOCH).expect("within the limits");
    }
    assert_eq!(stream.settle_but("port in use", is_bad), ["Cluster a=1", "Listener b=bad"]);
    stream.session.request(first, Timestamp::UNIX_EPOCH).expect("within the limits");
    assert_eq!(stream.settle(), [""; 0], "only the first request tells of a new process");
}

/// A first request that tells whether the client holds something.
fn begin(stream: &mut Stream, ty: ResourceType, held: &[(&str, &str)]) {
    let (type_url, nonce) = (ty.type_url().to_owned(), String::new());
    let interest = match stream.session.protocol {
        Protocol::Delta => Interest::Change {
            subscribe: vec![],
            unsubscribe: vec![],
            held: held.iter().map(|(name, body)| ((*name).to_owned(), version(body).to_string())).collect(),
        },
        Protocol::StateOfTheWorld => Interest::Exactly(vec![]),
    };
    let request =
        Request { node: None, type_url, nonce, error: None, holds_nothing: held.is_empty(), interest };
    stream.session.request(request, Timestamp::UNIX_EPOCH).expect("within the limits");
}

fn restored(protocol: Protocol, resources: &[(ResourceType, &str, &str)]) -> Stream {
    let cache = Cache::new();
    cache.restore(owned(resources));
    Stream::of(protocol, cache, Limits::default())
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Delta, Protocol::StateOfTheWorld];

#[test]
fn a_restored_state_serves_a_client_that_holds_nothing() {
    for protocol in PROTOCOLS {
        let mut stream = restored(protocol, &[(Clusters, "old", "1"), (Clusters, "same", "1")]);
        begin(&mut stream, Clusters, &[]);
        assert_eq!(stream.settle(), ["Cluster old=1 same=1"]);
        stream.cache.replace(owned(&[(Clusters, "same", "1")]));
        stream.session.update(stream.cache.state());
        let last = match protocol {
            Protocol::Delta => "Cluster -old",
            Protocol::StateOfTheWorld => "Cluster same=1 -old",
        };
        assert_eq!(stream.settle(), [last]);
    }
}

#[test]
fn a_restored_state_that_is_set_again_is_not_sent_again() {
    for protocol in PROTOCOLS {
        let resources = [(Clusters, "a", "1"), (Listeners, "l", "1")];
        let mut stream = restored(protocol, &resources);
        begin(&mut stream, Clusters, &[]);
        begin(&mut stream, Listeners, &[]);
        assert_eq!(stream.settle(), ["Cluster a=1", "Listener l=1"]);
        assert!(stream.cache.replace(owned(&resources)));
        stream.session.update(stream.cache.state());
        assert_eq!(stream.settle(), [""; 0]);
    }
}

#[test]
fn a_restored_state_takes_nothing_from_a_client_that_holds_something() {
    for protocol in PROTOCOLS {
        let mut stream =
            restored(protocol, &[(Clusters, "a", "1"), (Clusters, "b", "1"), (Listeners, "l", "1")]);
        begin(&mut stream, Clusters, &[("a", "2"), ("c", "1")]);
        begin(&mut stream, Listeners, &[]);
        assert_eq!(stream.settle(), [""; 0]);
        assert_eq!(stream.session.wakeup(stream.now), None);
        stream.cache.replace(owned(&[(Clusters, "a", "2"), (Listeners, "l", "2")]));
        stream.session.update(stream.cache.state());
        let shown = stream.settle();
        match protocol {
            Protocol::Delta => assert_eq!(shown, ["Listener l=2", "Cluster -c"]),
            Protocol::StateOfTheWorld => assert_eq!(shown, ["Cluster a=2", "Listener l=2"]),
        }
    }
}
