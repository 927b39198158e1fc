//! What a client asks for is what it gets.

use super::*;

#[test]
fn a_wildcard_gets_everything_and_then_only_what_changes() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"]);
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"]);
    stream.remove(Clusters, "a");
    assert_eq!(stream.settle(), ["Cluster -a"]);
}

#[test]
fn an_asterisk_is_a_wildcard_for_every_type_until_it_is_unsubscribed() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &["*"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=1"]);
    stream.unsubscribe(Routes, &["*"]);
    stream.set(Routes, "a", "2");
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn an_empty_first_request_for_routes_asks_for_nothing() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &[]);
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn names_get_what_they_name() {
    let mut stream = delta(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    stream.subscribe(Endpoints, &["a"]);
    assert_eq!(stream.settle(), ["ClusterLoadAssignment a=1"]);
    stream.set(Endpoints, "b", "2");
    assert_eq!(stream.settle(), [""; 0]);
    stream.subscribe(Endpoints, &["b"]);
    assert_eq!(stream.settle(), ["ClusterLoadAssignment b=2"]);
}

#[test]
fn a_missing_resource_is_denied_once_and_sent_when_it_comes() {
    let mut stream = delta(&[]);
    stream.subscribe(Routes, &["later"]);
    assert_eq!(stream.settle(), ["RouteConfiguration -later"]);
    stream.set(Routes, "other", "1");
    assert_eq!(stream.settle(), [""; 0]);
    stream.set(Routes, "later", "1");
    assert_eq!(stream.settle(), ["RouteConfiguration later=1"]);
}

#[test]
fn what_is_unsubscribed_is_not_sent_and_what_is_asked_for_again_is() {
    let mut stream = delta(&[(Routes, "a", "1")]);
    stream.subscribe(Routes, &["a"]);
    stream.settle();
    stream.unsubscribe(Routes, &["a"]);
    stream.set(Routes, "a", "2");
    assert_eq!(stream.settle(), [""; 0]);
    stream.subscribe(Routes, &["a"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=2"]);
    stream.subscribe(Routes, &["a"]);
    assert_eq!(stream.settle(), ["RouteConfiguration a=2"], "the client may have dropped it meanwhile");
}

#[test]
fn a_name_unsubscribed_under_a_wildcard_is_told_what_it_still_is() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &["*", "a", "gone"]);
    assert_eq!(stream.settle(), ["Cluster a=1 -gone"]);
    stream.unsubscribe(Clusters, &["a", "gone", "never"]);
    assert_eq!(stream.settle(), ["Cluster a=1 -gone"]);
}

#[test]
fn nobody_is_told_anything_before_there_is_a_state() {
    let mut session = Session::new(Protocol::Delta, Limits::default(), Rejections::default());
    let interest = Interest::Change {
        subscribe: vec![],
        unsubscribe: vec![],
        held: HashMap::from([("a".to_owned(), version("1").to_string())]),
    };
    let (type_url, nonce) = (Clusters.type_url().to_owned(), String::new());
    let request = Request { node: None, type_url, nonce, error: None, holds_nothing: false, interest };
    session.request(request, Timestamp::UNIX_EPOCH).expect("within the limits");
    assert_eq!(session.next(Instant::now()), None);

    let cache = Cache::new();
    cache.replace([(Clusters, "b".to_owned(), Bytes::from("1"))]);
    session.update(cache.state());
    assert_eq!(session.next(Instant::now()).map(|added| show(&added)), Some("Cluster b=1".to_owned()));
}

#[test]
fn a_new_client_is_told_that_there_is_nothing() {
    for mut stream in [delta(&[]), sotw(&[])] {
        match stream.session.protocol {
            Protocol::Delta => stream.subscribe(Clusters, &[]),
            Protocol::StateOfTheWorld => stream.ask(Clusters, &[], ""),
        }
        assert_eq!(stream.settle(), ["Cluster"]);
    }
}

#[test]
fn a_delta_request_with_a_stale_nonce_still_changes_names() {
    let mut stream = delta(&[(Routes, "a", "1"), (Routes, "b", "1")]);
    stream.subscribe(Routes, &["a"]);
    stream.settle();
    let interest = Interest::Change { subscribe: strings(&["b"]), unsubscribe: vec![], held: HashMap::new() };
    stream.request(Routes, "nonsense", None, interest).expect("within the limits");
    assert_eq!(stream.settle(), ["RouteConfiguration b=1"]);
}

#[test]
fn requests_for_unknown_types_are_ignored() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    for type_url in ["", "nonsense", "type.googleapis.com/envoy.service.runtime.v3.Runtime"] {
        let interest =
            Interest::Change { subscribe: strings(&["*"]), unsubscribe: vec![], held: HashMap::new() };
        let (type_url, nonce, error) = (type_url.to_owned(), "1".to_owned(), Some("no".to_owned()));
        let request = Request { node: None, type_url, nonce, error, holds_nothing: false, interest };
        assert_eq!(stream.session.request(request, Timestamp::UNIX_EPOCH), Ok(()));
    }
    assert_eq!(stream.responses(), []);
}

#[test]
fn names_are_limited_in_length_and_number() {
    let limits = Limits { names_per_request: 3, names_per_type: 4, name_bytes: 5, ..Limits::default() };
    let mut stream = Stream::limited(Protocol::Delta, &[], limits);
    let interest = |add: &[&str], remove: &[&str], held: &[&str]| Interest::Change {
        subscribe: strings(add),
        unsubscribe: strings(remove),
        held: held.iter().map(|name| ((*name).to_owned(), String::new())).collect(),
    };
    let mut request = |interest| stream.request(Routes, "", None, interest);
    assert_eq!(request(interest(&["123456"], &[], &[])), Err(Violation::NameBytes(5)));
    assert_eq!(request(interest(&[], &[], &["123456"])), Err(Violation::NameBytes(5)));
    assert_eq!(request(interest(&["a", "b"], &["c"], &["d"])), Err(Violation::RequestNames(3)));
    assert_eq!(request(interest(&["a", "b", "c"], &[], &[])), Ok(()));
    assert_eq!(request(interest(&["c", "d"], &[], &[])), Ok(()));
    assert_eq!(request(interest(&["e"], &[], &[])), Err(Violation::TypeNames(4)));
    let mut stream = Stream::limited(Protocol::StateOfTheWorld, &[], stream.session.limits.clone());
    let names = Interest::Exactly(strings(&["a", "b", "c", "d"]));
    assert_eq!(stream.request(Routes, "", None, names), Err(Violation::RequestNames(3)));
}
