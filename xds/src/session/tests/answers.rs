//! Responses and their answers.

use super::*;

#[test]
fn changes_coalesce_while_a_response_is_outstanding() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    for body in ["2", "3"] {
        stream.set(Clusters, "a", body);
        stream.set(Clusters, "b", body);
        assert_eq!(stream.responses(), []);
    }
    stream.ack(&first);
    assert_eq!(stream.settle(), ["Cluster a=3 b=3"]);
}

#[test]
fn a_change_that_is_taken_back_while_it_is_on_its_way_is_sent_back() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "a", "2");
    let second = stream.response();
    stream.set(Clusters, "a", "1");
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn what_is_taken_away_or_replaced_right_now_is_not_held() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.remove(Clusters, "a");
    let removal = stream.response();
    stream.set(Clusters, "a", "1");
    assert_eq!(stream.holds(Clusters, "a"), Some(None), "it is back, but the client removes it first");
    assert_eq!(stream.holds(Clusters, "b"), Some(Some(version("1"))));
    stream.ack(&removal);
    assert_eq!(stream.settle(), ["Cluster a=1"]);
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));

    stream.set(Clusters, "b", "2");
    let second = stream.response();
    stream.set(Clusters, "b", "1");
    assert_eq!(stream.holds(Clusters, "b"), Some(None), "the client may read the second one any time");
    stream.ack(&second);
    stream.settle();
    assert_eq!(stream.holds(Clusters, "b"), Some(Some(version("1"))));
}

#[test]
fn a_resource_removed_while_it_is_on_its_way_is_removed_afterwards() {
    for mut stream in [delta(&[(Clusters, "a", "1")]), sotw(&[(Clusters, "a", "1")])] {
        match stream.session.protocol {
            Protocol::Delta => stream.subscribe(Clusters, &[]),
            Protocol::StateOfTheWorld => stream.ask(Clusters, &[], ""),
        }
        let first = stream.response();
        stream.remove(Clusters, "a");
        assert_eq!(stream.responses(), []);
        stream.ack(&first);
        assert_eq!(stream.settle(), ["Cluster -a"]);
    }
}

#[test]
fn a_version_counts_once_it_is_acknowledged() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    assert_eq!(stream.holds(Clusters, "a"), None, "not subscribed");
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    assert_eq!(stream.holds(Clusters, "a"), Some(None));
    stream.ack(&first);
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
    stream.set(Clusters, "a", "bad");
    let second = stream.response();
    stream.nack(&second, "no");
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
}

#[test]
fn an_answer_with_another_nonce_is_none() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    let first = stream.response();
    for nonce in ["", "0", "17", "nonsense"] {
        stream.ack(&Response { nonce: nonce.to_owned(), ..first.clone() });
        assert_eq!(stream.holds(Clusters, "a"), Some(None));
    }
    stream.ack(&first);
    stream.nack(&first, "too late");
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
    assert_eq!(stream.settle(), [""; 0]);
}

#[test]
fn what_an_answer_passes_over_is_sent_again() {
    let mut stream = delta(&[(Clusters, "a", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.response();
    stream.now += stream.session.limits.patience;
    stream.set(Clusters, "b", "1");
    let second = stream.response();
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Cluster a=1"]);
}

#[test]
fn a_client_that_never_answers_costs_a_bounded_memory() {
    let mut stream = delta(&[(Clusters, "a", "0")]);
    stream.subscribe(Clusters, &[]);
    for round in 1..=20 {
        stream.responses();
        stream.set(Clusters, "a", &round.to_string());
        stream.now += stream.session.limits.patience;
    }
    assert_eq!(stream.session.subscription(Clusters).unanswered().count(), 8);
}

#[test]
fn a_session_that_missed_states_is_told_the_newest() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.cache.apply([Change::Remove(Clusters, "b".to_owned())]);
    for body in 0..200 {
        stream.cache.apply([Change::Set(Clusters, "a".to_owned(), body.to_string().into())]);
    }
    stream.session.update(stream.cache.state());
    assert_eq!(stream.settle(), ["Cluster a=199", "Cluster -b"]);
}

#[test]
fn the_status_tells_what_was_sent_acknowledged_and_rejected() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "1"), (Clusters, "c", "1")]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.set(Clusters, "a", "bad");
    stream.settle_but("it is bad", is_bad);
    stream.set(Clusters, "b", "2");
    stream.response();
    let status = &stream.session.status()[&Clusters];
    assert_eq!((status.subscribed, status.sent, status.acked, status.nacked), (3, 3, 1, 1));
    let a = &status.resources["a"];
    assert_eq!((a.sent, a.acked), (Some(version("bad")), Some(version("1"))));
    let nack = a.nack.as_ref().expect("it was rejected");
    assert_eq!((nack.version, &*nack.message, nack.at), (version("bad"), "it is bad", Timestamp::UNIX_EPOCH));
    let b = &status.resources["b"];
    assert_eq!((b.sent, b.acked, &b.nack), (Some(version("2")), Some(version("1")), &None));
}

#[test]
fn a_large_response_is_split() {
    let limits = Limits { response_bytes: 270, ..Limits::default() };
    let resources = [
        (Routes, "a", "12345"),
        (Routes, "b", "123"),
        (Routes, "c", "1234567890 and more"),
        (Routes, "d", "1"),
    ];
    let mut stream = Stream::limited(Protocol::Delta, &resources, limits);
    stream.subscribe(Routes, &["a", "b", "c", "d"]);
    assert_eq!(
        stream.settle(),
        [
            "RouteConfiguration a=12345 b=123",
            "RouteConfiguration c=1234567890 and more",
            "RouteConfiguration d=1"
        ]
    );
}
