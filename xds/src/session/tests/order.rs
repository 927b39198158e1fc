//! Make before break.

use super::*;

const CHAIN: [(ResourceType, &str, &str); 4] =
    [(Clusters, "c", "1"), (Endpoints, "c", "1"), (Listeners, "l", "1"), (Routes, "r", "1")];

fn chain() -> Stream {
    let mut stream = delta(&CHAIN);
    stream.subscribe(Routes, &["r"]);
    stream.subscribe(Listeners, &[]);
    stream.subscribe(Endpoints, &["c"]);
    stream.subscribe(Clusters, &[]);
    stream
}

#[test]
fn listeners_and_routes_wait_until_clusters_and_endpoints_are_answered() {
    let mut stream = chain();
    let supplies = stream.responses();
    let shown: Vec<_> = supplies.iter().map(show).collect();
    assert_eq!(
        shown,
        ["Cluster c=1", "ClusterLoadAssignment c=1"],
        "endpoints do not wait: they warm clusters"
    );
    stream.ack(&supplies[1]);
    assert_eq!(stream.responses(), []);
    stream.nack(&supplies[0], "a rejection is an answer");
    assert_eq!(stream.settle(), ["Listener l=1", "RouteConfiguration r=1"]);
}

#[test]
fn removals_come_last_and_in_reverse_order() {
    let mut stream = chain();
    stream.settle();
    let changes = CHAIN.map(|(ty, name, _)| Change::Remove(ty, name.to_owned()));
    let added = Change::Set(Clusters, "new".to_owned(), Bytes::from("1"));
    stream.apply(changes.into_iter().chain([added]));
    let first = stream.response();
    assert_eq!(show(&first), "Cluster new=1");
    stream.ack(&first);
    let second = stream.response();
    assert_eq!(show(&second), "RouteConfiguration -r");
    stream.ack(&second);
    assert_eq!(stream.settle(), ["Listener -l", "ClusterLoadAssignment -c", "Cluster -c"]);
}

#[test]
fn a_scope_comes_after_the_routes_it_leads_to_and_goes_before_them() {
    let mut stream = delta(&[(Routes, "r", "1")]);
    stream.subscribe(Scopes, &[]);
    stream.subscribe(Routes, &["r"]);
    assert_eq!(
        stream.settle(),
        ["RouteConfiguration r=1", "ScopedRouteConfiguration"],
        "Envoy waits for an answer even if there is no scope"
    );
    stream.apply(
        [(Scopes, "s", "1"), (Routes, "r", "2")]
            .map(|(ty, name, body)| Change::Set(ty, name.to_owned(), Bytes::from(body))),
    );
    assert_eq!(stream.settle(), ["RouteConfiguration r=2", "ScopedRouteConfiguration s=1"]);
    stream.apply([(Scopes, "s"), (Routes, "r")].map(|(ty, name)| Change::Remove(ty, name.to_owned())));
    assert_eq!(stream.settle(), ["ScopedRouteConfiguration -s", "RouteConfiguration -r"]);
}

#[test]
fn clusters_stay_until_the_routes_that_leave_them_are_acknowledged() {
    let mut stream = chain();
    stream.settle();
    stream.apply([
        Change::Set(Routes, "r".to_owned(), Bytes::from("2")),
        Change::Remove(Clusters, "c".to_owned()),
    ]);
    let routes = stream.response();
    assert_eq!(show(&routes), "RouteConfiguration r=2");
    stream.now += stream.session.limits.patience * 2;
    assert_eq!(stream.responses(), [], "for this there is no end of patience");
    stream.ack(&routes);
    assert_eq!(stream.settle(), ["Cluster -c"]);
}

#[test]
fn the_wait_for_an_answer_is_bounded() {
    let mut stream = chain();
    assert_eq!(stream.session.wakeup(stream.now), None);
    let supplies = stream.responses();
    assert_eq!(supplies.len(), 2);
    let end = stream.session.wakeup(stream.now).expect("there is something to wait for");
    stream.set(Clusters, "new", "1");
    assert_eq!(stream.responses(), []);

    stream.now = end;
    let late = stream.responses();
    let shown: Vec<_> = late.iter().map(show).collect();
    assert_eq!(shown, ["Cluster new=1"], "and the listeners wait for that");
    stream.now += stream.session.limits.patience;
    assert_eq!(stream.settle(), ["Listener l=1", "RouteConfiguration r=1"]);

    stream.nack(&supplies[0], "no");
    stream.ack(&late[0]);
    assert_eq!(stream.holds(Clusters, "c"), Some(None));
    assert_eq!(stream.holds(Clusters, "new"), Some(Some(version("1"))));
}

#[test]
fn an_updated_cluster_is_followed_by_its_endpoints() {
    let cluster = |name: &str, service: &str| Cluster {
        name: name.to_owned(),
        eds_cluster_config: Some(EdsClusterConfig { service_name: service.to_owned(), eds_config: None }),
        ..Cluster::default()
    };
    let set = |cluster: Cluster| Change::Set(Clusters, cluster.name.clone(), cluster.encode_to_vec().into());
    let mut stream = delta(&[(Endpoints, "a", "1"), (Endpoints, "b-service", "1")]);
    stream.apply([set(cluster("a", "")), set(cluster("b", "b-service"))]);
    stream.subscribe(Clusters, &[]);
    stream.settle();
    stream.change(Endpoints, &["a", "b-service"], &[], &[("a", "1"), ("b-service", "1")]);
    assert_eq!(
        stream.settle(),
        ["ClusterLoadAssignment a=1 b-service=1"],
        "a client that comes back has both but gets them, for its clusters were updated"
    );
    stream.apply([set(Cluster { alt_stat_name: "x".to_owned(), ..cluster("b", "b-service") })]);
    let shown = stream.settle();
    assert!(shown[0].starts_with("Cluster b="), "{shown:?}");
    assert_eq!(shown[1..], ["ClusterLoadAssignment b-service=1"]);
}

#[test]
fn endpoints_that_were_rejected_are_tried_again_with_their_cluster() {
    let cluster = |stat_name: &str| Cluster {
        name: "c".to_owned(),
        alt_stat_name: stat_name.to_owned(),
        eds_cluster_config: Some(EdsClusterConfig::default()),
        ..Cluster::default()
    };
    let set = |cluster: Cluster| Change::Set(Clusters, "c".to_owned(), cluster.encode_to_vec().into());
    let mut stream = delta(&[(Endpoints, "c", "1")]);
    stream.apply([set(cluster("bad"))]);
    stream.subscribe(Clusters, &[]);
    stream.subscribe(Endpoints, &["c"]);
    stream.settle_but("the cluster's ring is too small", |resource| resource.body() == b"1");
    assert_eq!(stream.holds(Endpoints, "c"), Some(None));
    stream.apply([set(cluster("good"))]);
    let shown = stream.settle();
    assert_eq!(shown[1..], ["ClusterLoadAssignment c=1"], "{shown:?}");
    assert_eq!(stream.holds(Endpoints, "c"), Some(Some(version("1"))));
}

#[test]
fn secrets_and_extension_configs_go_one_by_one() {
    for mut stream in [
        delta(&[(Filters, "a", "bad"), (Filters, "b", "1"), (Secrets, "a", "1"), (Secrets, "b", "1")]),
        sotw(&[(Filters, "a", "bad"), (Filters, "b", "1"), (Secrets, "a", "1"), (Secrets, "b", "1")]),
    ] {
        for ty in [Filters, Secrets] {
            match stream.session.protocol {
                Protocol::Delta => stream.subscribe(ty, &["a", "b"]),
                Protocol::StateOfTheWorld => stream.ask(ty, &["a", "b"], ""),
            }
        }
        assert_eq!(
            stream.settle_but("it does not compile", is_bad),
            ["Secret a=1", "Secret b=1", "TypedExtensionConfig a=bad", "TypedExtensionConfig b=1"]
        );
    }
}
