//! What is special about the state of the world.

use super::*;

#[test]
fn the_state_of_the_world_lists_all_scopes() {
    let mut stream = sotw(&[]);
    stream.ask(Scopes, &[], "");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration"]);
    stream.set(Scopes, "a", "1");
    stream.set(Scopes, "b", "1");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration a=1 b=1"]);
    stream.remove(Scopes, "a");
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration b=1 -a"]);
}

#[test]
fn the_state_of_the_world_lists_all_clusters_and_removes_by_absence() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &[], "");
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"]);
    stream.apply([
        Change::Set(Clusters, "c".to_owned(), Bytes::from("1")),
        Change::Remove(Clusters, "a".to_owned()),
    ]);
    assert_eq!(stream.settle(), ["Cluster a=1 b=1 c=1", "Cluster b=1 c=1 -a"], "first make, then break");
}

#[test]
fn a_list_is_whole_however_long_it_is() {
    let resources = [(Clusters, "a", "1"), (Clusters, "b", "1"), (Routes, "a", "1"), (Routes, "b", "1")];
    let limits = Limits { response_bytes: 1, ..Limits::default() };
    let mut stream = Stream::limited(Protocol::StateOfTheWorld, &resources, limits);
    stream.ask(Clusters, &[], "");
    assert_eq!(stream.settle(), ["Cluster a=1 b=1"], "it may hold both from an earlier stream");
    stream.ask(Routes, &["a", "b"], "");
    assert_eq!(stream.settle(), ["RouteConfiguration a=1", "RouteConfiguration b=1"]);
}

#[test]
fn the_state_of_the_world_sends_only_the_routes_that_changed() {
    let mut stream = sotw(&[(Routes, "a", "1"), (Routes, "b", "1"), (Routes, "c", "1")]);
    stream.ask(Routes, &["a", "b", "missing"], "");
    let first = stream.response();
    assert_eq!(show(&first), "RouteConfiguration a=1 b=1");
    stream.ack(&first);
    stream.set(Routes, "b", "2");
    let second = stream.response();
    assert_eq!(show(&second), "RouteConfiguration b=2");
    stream.ack(&second);
    stream.remove(Routes, "a");
    assert_eq!(stream.settle(), [""; 0], "there are no words for it");
    stream.ask(Routes, &["b", "c"], &second.nonce);
    assert_eq!(stream.settle(), ["RouteConfiguration c=1"]);
}

#[test]
fn the_state_of_the_world_keeps_the_last_good_version_of_a_bad_resource() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.apply(
        [("a", "bad"), ("b", "2"), ("c", "bad")]
            .map(|(name, body)| Change::Set(Clusters, name.to_owned(), Bytes::from(body))),
    );
    let all = stream.response();
    assert_eq!(show(&all), "Cluster a=bad b=2 c=bad");
    stream.nack(&all, "Error adding/updating cluster(s) a: no, c: no");
    assert_eq!(stream.settle(), ["Cluster a=1 b=2"]);
    stream.set(Clusters, "c", "1");
    assert_eq!(stream.settle(), ["Cluster a=1 b=2 c=1"]);
}

#[test]
fn the_state_of_the_world_halves_what_is_new_and_keeps_what_is_not() {
    let mut stream = sotw(&[(Clusters, "old", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.apply(
        [("x", "1"), ("y", "bad")]
            .map(|(name, body)| Change::Set(Clusters, name.to_owned(), Bytes::from(body))),
    );
    assert_eq!(
        stream.settle_but("no", is_bad),
        ["Cluster old=1 x=1 y=bad", "Cluster old=1 x=1", "Cluster old=1 x=1 y=bad", "Cluster old=1 x=1"]
    );
    stream.set(Clusters, "x", "2");
    assert_eq!(stream.settle(), ["Cluster old=1 x=2"]);
}

#[test]
fn the_state_of_the_world_is_told_even_to_a_client_that_rejects_all_that_is_new() {
    let mut stream = sotw(&[(Clusters, "a", "bad")]);
    stream.ask(Clusters, &[], "");
    assert_eq!(
        stream.settle_but("no", is_bad),
        ["Cluster a=bad", "Cluster"],
        "it may hold some that are gone"
    );
}

#[test]
fn a_stale_request_in_the_state_of_the_world_is_ignored() {
    let mut stream = sotw(&[(Routes, "a", "1"), (Routes, "b", "1")]);
    stream.ask(Routes, &["a"], "");
    let first = stream.response();
    stream.ask(Routes, &["a", "b"], "");
    assert_eq!(stream.responses(), []);
    stream.ack(&first);
    assert_eq!(stream.settle(), ["RouteConfiguration b=1"], "the answer repeats the names");
}

#[test]
fn what_a_client_gave_up_for_a_moment_is_sent_again() {
    let mut stream = sotw(&[(Endpoints, "a", "1")]);
    stream.ask(Endpoints, &["a", "b"], "");
    let first = stream.response();
    stream.ack(&first);
    stream.set(Endpoints, "b", "1");
    let crossing = stream.response();
    assert_eq!(show(&crossing), "ClusterLoadAssignment b=1");
    stream.ask(Endpoints, &["b"], &first.nonce);
    stream.ask(Endpoints, &["a", "b"], &first.nonce);
    assert_eq!(stream.settle(), [""; 0], "one response at a time");
    stream.ack(&crossing);
    assert_eq!(stream.settle(), ["ClusterLoadAssignment a=1"]);
}

#[test]
fn an_empty_list_after_names_is_no_wildcard() {
    let mut stream = sotw(&[(Clusters, "a", "1"), (Clusters, "b", "1")]);
    stream.ask(Clusters, &["a"], "");
    let first = stream.response();
    assert_eq!(show(&first), "Cluster a=1");
    stream.ask(Clusters, &[], &first.nonce);
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), [""; 0]);
    let nonce = first.nonce;
    stream.ask(Clusters, &["*"], &nonce);
    assert_eq!(stream.settle(), ["Cluster a=1 b=2"]);
}

#[test]
fn a_late_rejection_does_not_hit_whatever_was_sent_last() {
    let mut stream = sotw(&[(Clusters, "old", "1")]);
    stream.ask(Clusters, &[], "");
    stream.settle();
    stream.set(Clusters, "bad", "never warm");
    assert_eq!(show(&stream.response()), "Cluster bad=never warm old=1");
    stream.now += stream.session.limits.patience;
    stream.apply([
        Change::Remove(Clusters, "bad".to_owned()),
        Change::Set(Clusters, "good".to_owned(), Bytes::from("1")),
    ]);
    let second = stream.response();
    assert_eq!(show(&second), "Cluster good=1 old=1");
    stream.nack(&second, "minimum is above maximum");
    assert_eq!(stream.settle()[0], "Cluster good=1 old=1");
    assert_eq!(stream.holds(Clusters, "good"), Some(Some(version("1"))));
}

#[test]
fn a_late_rejection_of_a_bad_resource_is_believed_when_it_is_repeated() {
    let mut stream = sotw(&[(Clusters, "a", "1")]);
    stream.ask(Clusters, &[], "");
    stream.response();
    stream.now += stream.session.limits.patience;
    stream.set(Clusters, "b", "bad");
    let shown = stream.settle_but("no", is_bad);
    assert_eq!(shown.iter().filter(|response| response.contains("b=bad")).count(), 3, "{shown:?}");
    assert_eq!(stream.holds(Clusters, "a"), Some(Some(version("1"))));
    assert_eq!(stream.session.status()[&Clusters].nacked, 1);
}
