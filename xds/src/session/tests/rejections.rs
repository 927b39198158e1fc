//! One bad resource hurts only itself.

use super::*;

#[test]
fn a_named_culprit_is_held_back_and_the_others_go_on() {
    let mut stream = delta(&[(Clusters, "a", "1"), (Clusters, "b", "bad"), (Clusters, "c", "1")]);
    stream.subscribe(Clusters, &[]);
    let all = stream.response();
    stream.nack(&all, "Error adding/updating cluster(s) b: is bad");
    assert_eq!(stream.settle(), ["Cluster a=1 c=1"]);
    stream.set(Clusters, "a", "2");
    assert_eq!(stream.settle(), ["Cluster a=2"], "the culprit is not sent again unchanged");
    stream.set(Clusters, "b", "2");
    assert_eq!(stream.settle(), ["Cluster b=2"], "its new content is tried");
}

#[test]
fn a_mentioned_suspect_is_tried_alone_first() {
    let names = ["a", "b", "c", "d"].map(|name| (Routes, name, if name == "c" { "bad" } else { "1" }));
    let mut stream = delta(&names);
    stream.subscribe(Routes, &["a", "b", "c", "d"]);
    assert_eq!(
        stream.settle_but("only one wildcard domain is permitted in route c", is_bad),
        [
            "RouteConfiguration a=1 b=1 c=bad d=1",
            "RouteConfiguration c=bad",
            "RouteConfiguration a=1 b=1 d=1"
        ],
    );
}

#[test]
fn a_resource_that_is_mentioned_by_chance_is_not_condemned() {
    let mut stream = delta(&[(Routes, "a", "bad"), (Routes, "route", "1")]);
    stream.subscribe(Routes, &["a", "route"]);
    stream.settle_but("there is something wrong with a route", is_bad);
    assert_eq!(stream.holds(Routes, "route"), Some(Some(version("1"))));
    assert_eq!(stream.holds(Routes, "a"), Some(None));
}

#[test]
fn unnamed_culprits_are_found_by_halving() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut stream =
        delta(&names.map(|name| (Routes, name, if matches!(name, "b" | "f") { "bad" } else { "1" })));
    stream.subscribe(Routes, &names);
    let shown = stream.settle_but("something is wrong", is_bad);
    for name in names {
        let held = (!matches!(name, "b" | "f")).then(|| version("1"));
        assert_eq!(stream.holds(Routes, name), Some(held), "{name}: {shown:?}");
    }
    assert!(shown.len() <= 11, "six resources are no more than eleven groups: {shown:?}");
    assert_eq!(shown.iter().filter(|response| *response == "RouteConfiguration b=bad").count(), 1);
}

#[test]
fn a_client_that_rejects_everything_is_left_in_peace() {
    let resources = ["a", "b", "c", "d", "e"].map(|name| (Clusters, name, "1"));
    let mut stream = delta(&resources);
    stream.subscribe(Clusters, &["*", "gone"]);
    assert!(stream.settle_but("no", |_| true).len() < 12);

    let mut stream = sotw(&resources);
    stream.ask(Clusters, &[], "");
    assert!(stream.settle_but("no", |_| true).len() < 12);
    stream.remove(Clusters, "a");
    assert_eq!(stream.settle_but("no", |_| true), ["Cluster -a"], "who knows whether it has applied some");
}

#[test]
fn a_resource_that_goes_back_to_what_the_client_holds_is_rejected_no_more() {
    for mut stream in [delta(&[(Routes, "a", "1")]), sotw(&[(Routes, "a", "1")])] {
        match stream.session.protocol {
            Protocol::Delta => stream.subscribe(Routes, &["a"]),
            Protocol::StateOfTheWorld => stream.ask(Routes, &["a"], ""),
        }
        stream.settle();
        stream.set(Routes, "a", "bad");
        stream.settle_but("is bad", is_bad);
        assert!(!stream.session.rejections.is_empty());
        stream.set(Routes, "a", "1");
        assert_eq!(stream.settle(), Vec::<String>::new());
        assert!(stream.session.rejections.is_empty());
    }
}
