use kube::runtime::watcher;
use tokio::task::JoinHandle;

use super::super::gateways::Gateways;
use super::super::intake::{Follower, Intake};
use super::super::raw::api;
use super::super::watch::watch as follow;
use super::*;
use crate::source::Severity;

/// The watch of one kind.
struct Watching {
    server: FakeServer,
    events: mpsc::Receiver<Event>,
    report: watch::Receiver<SourceReport>,
    task: JoinHandle<()>,
}

impl Watching {
    fn start(kind: Kind) -> Self {
        let (client, server) = FakeServer::new();
        let (events_in, events) = mpsc::channel(64);
        let (board, report) = board();
        let intake =
            Intake::new(kind, "its-namespace", alice(), Follower::None, events_in, Arc::clone(&board));
        let task = tokio::spawn(follow(intake, api(kind, client, "its-namespace"), board));
        Self { server, events, report, task }
    }

    /// A watch of services that has read `a` and `b`, and the stream of what comes next.
    async fn read() -> (Self, Stream) {
        let mut watching = Self::start(Kind::Service);
        let asked = watching.server.asked().await;
        assert!(asked.is_streaming_list(), "{asked:?}");
        let stream = asked.stream();
        for name in ["a", "b"] {
            stream.event("ADDED", &service(name, 5));
        }
        stream.end_of_list();
        watching
            .expect([
                "Init Service",
                "InitApply Service alice/a",
                "InitApply Service alice/b",
                "InitDone Service",
            ])
            .await;
        (watching, stream)
    }

    async fn expect<const N: usize>(&mut self, expected: [&str; N]) {
        for expected in expected {
            let event = timeout(DEADLINE, self.events.recv()).await.expect(expected).expect("a watch");
            assert_eq!(describe(&event), expected);
        }
    }

    /// Waits until the problems are right; answers them.
    async fn problems(&mut self, right: impl Fn(&[String]) -> bool) -> Vec<String> {
        let lines = |report: &SourceReport| -> Vec<String> {
            report.problems.iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect()
        };
        let report = self.report.wait_for(|report| right(&lines(report)));
        let report = timeout(DEADLINE, report).await.expect("the problems in time").expect("a board");
        lines(&report)
    }

    async fn problem(&mut self) -> String {
        let [problem] = self.problems(|problems| problems.len() == 1).await.try_into().expect("one problem");
        problem
    }

    /// Refuses whatever is asked with `code` until that is reported.
    async fn refuse_until_reported(&mut self, code: u16) -> String {
        while self.report.borrow().problems.is_empty() {
            tokio::select! {
                asked = self.server.asked() => asked.refuse(code),
                changed = self.report.changed() => changed.expect("a board"),
            }
        }
        self.problem().await
    }
}

#[tokio::test(start_paused = true)]
async fn changes_come_as_objects_of_the_domain_whatever_the_namespace_is_called() {
    let (mut watching, stream) = Watching::read().await;
    stream.event("MODIFIED", &service("a", 11));
    stream.event("DELETED", &service("b", 12));
    stream.event("ADDED", &service("c", 13));
    watching.expect(["Apply Service alice/a", "Delete Service alice/b", "Apply Service alice/c"]).await;
    assert_eq!(watching.report.borrow().objects, 2);
    assert!(!watching.report.borrow().synced, "other kinds were not read");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_in_the_middle_of_a_list_deletes_nothing() {
    let mut watching = Watching::start(Kind::Service);
    let stream = watching.server.asked().await.stream();
    stream.event("ADDED", &service("a", 5));
    watching.expect(["Init Service", "InitApply Service alice/a"]).await;
    stream.break_off();
    let asked = watching.server.asked().await;
    assert!(asked.is_streaming_list(), "{asked:?}");
    let stream = asked.stream();
    stream.event("ADDED", &service("b", 6));
    stream.end_of_list();
    // The index forgets the reading that was given up.
    watching.expect(["Init Service", "InitApply Service alice/b", "InitDone Service"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_goes_on_from_where_it_was() {
    let (mut watching, stream) = Watching::read().await;
    stream.event("MODIFIED", &service("a", 11));
    watching.expect(["Apply Service alice/a"]).await;
    stream.break_off();
    let asked = watching.server.asked().await;
    assert_eq!((asked.is_streaming_list(), asked.query["resourceVersion"].as_str()), (false, "11"));
    asked.stream().event("MODIFIED", &service("b", 12));
    watching.expect(["Apply Service alice/b"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_too_long_ago_is_read_again_as_a_whole() {
    for in_stream in [true, false] {
        let (mut watching, stream) = Watching::read().await;
        if in_stream {
            stream.event("ERROR", &status(410));
        } else {
            drop(stream);
            watching.server.asked().await.refuse(410);
        }
        let asked = watching.server.asked().await;
        assert!(asked.is_streaming_list(), "{asked:?}");
        let stream = asked.stream();
        stream.event("ADDED", &service("a", 15));
        stream.end_of_list();
        watching.expect(["Init Service", "InitApply Service alice/a", "InitDone Service"]).await;
        assert_eq!(watching.report.borrow().problems, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_read_page_by_page() {
    let mut watching = Watching::start(Kind::Service);
    watching.server.asked().await.refuse(422);
    let page = |name: &str, next: &str| {
        let metadata = json!({"resourceVersion": "7", "continue": next});
        json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": metadata, "items": [service(name, 5)]})
    };
    let asked = watching.server.asked().await;
    assert_eq!(asked.query["limit"], "500");
    asked.json(200, &page("a", "more"));
    let asked = watching.server.asked().await;
    assert_eq!(asked.query["continue"], "more");
    asked.json(200, &page("b", ""));
    watching
        .expect([
            "Init Service",
            "InitApply Service alice/a",
            "InitApply Service alice/b",
            "InitDone Service",
        ])
        .await;
    let asked = watching.server.asked().await;
    assert_eq!((asked.query["watch"].as_str(), asked.query["resourceVersion"].as_str()), ("true", "7"));
    assert_eq!(watching.report.borrow().problems, []);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_ends_is_read_page_by_page() {
    let mut watching = Watching::start(Kind::Service);
    let stream = watching.server.asked().await.stream();
    stream.event("ADDED", &service("a", 5));
    watching.expect(["Init Service", "InitApply Service alice/a"]).await;
    let asked = watching.server.asked().await;
    assert_eq!(asked.query["limit"], "500");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_a_problem_with_its_remedy_until_it_is_over() {
    let cases = [
        (401, Kind::Service, "https://server:6443: it does not accept the credentials", "renew the token"),
        (403, Kind::Service, "Services of https://server:6443: they may not be", "deploy/rbac/sidecar.yaml"),
        (
            404,
            Kind::DomainRoute,
            "DomainRoutes of https://server:6443: ",
            "networkmesh crds | kubectl apply -f -",
        ),
        (
            404,
            Kind::Endpoints,
            "https://server:6443: it does not know a kind",
            "whether a Kubernetes API server",
        ),
        (503, Kind::Service, "https://server:6443: it answers 503", "its etcd"),
    ];
    for (code, kind, place, remedy) in cases {
        let mut watching = Watching::start(kind);
        let problem = watching.refuse_until_reported(code).await;
        assert!(problem.starts_with(place) && problem.contains(remedy), "{code}: {problem}");
        assert!(watching.events.try_recv().is_err(), "{code} is no reading");
        watching.server.asked().await.stream().end_of_list();
        watching.expect([format!("Init {kind}").as_str(), format!("InitDone {kind}").as_str()]).await;
        assert_eq!(watching.problems(<[String]>::is_empty).await, [] as [&str; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_deletes_nothing_and_is_said_to_be_away_until_it_answers_again() {
    let (mut watching, stream) = Watching::read().await;
    stream.break_off();
    for _ in 0..2 {
        watching.server.asked().await.fail(io::ErrorKind::ConnectionRefused);
    }
    let problem = watching.problem().await;
    assert!(problem.starts_with("https://server:6443: nothing listens there"), "{problem}");
    // A watch that goes on says nothing by itself.
    let stream = watching.server.asked().await.stream();
    let asked = watching.server.asked().await;
    assert_eq!(asked.query["limit"], "1");
    asked.json(200, &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": []}));
    assert_eq!(watching.problems(<[String]>::is_empty).await, [] as [&str; 0]);
    let asked = watching.server.asked().await;
    assert!(asked.is_streaming_list(), "{asked:?}");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_all_is_read_again_for_the_server_may_have_gone_back_in_time() {
    for is_quiet in [true, false] {
        let (mut watching, stream) = Watching::read().await;
        stream.break_off();
        for _ in 0..10 {
            watching.server.asked().await.fail(io::ErrorKind::ConnectionRefused);
        }
        let stream = watching.server.asked().await.stream();
        if is_quiet {
            let asked = watching.server.asked().await;
            assert_eq!(asked.query["limit"], "1");
            let metadata = json!({"resourceVersion": "3"});
            asked.json(
                200,
                &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": metadata, "items": []}),
            );
        } else {
            stream.event("ADDED", &service("c", 11));
        }
        let asked = watching.server.asked().await;
        assert!(asked.is_streaming_list(), "{asked:?}");
        let stream = asked.stream();
        stream.event("ADDED", &service("a", 2));
        stream.end_of_list();
        watching.expect(["Init Service", "InitApply Service alice/a", "InitDone Service"]).await;
        assert_eq!(watching.problems(<[String]>::is_empty).await, [] as [&str; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_break_is_not_worth_a_word() {
    let (mut watching, stream) = Watching::read().await;
    stream.break_off();
    watching.server.asked().await.fail(io::ErrorKind::ConnectionRefused);
    watching.server.asked().await.stream().event("MODIFIED", &service("a", 11));
    watching.expect(["Apply Service alice/a"]).await;
    assert!(!watching.report.has_changed().expect("a board") || watching.report.borrow().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn domains_that_may_not_be_read_are_none_at_first_and_are_not_deleted_later() {
    let mut watching = Watching::start(Kind::Domain);
    for _ in 0..6 {
        assert!(watching.events.try_recv().is_err(), "a server that starts refuses everybody");
        watching.server.asked().await.refuse(403);
    }
    watching.expect(["Init Domain", "InitDone Domain"]).await;
    let problem = watching.problem().await;
    assert!(problem.contains("deploy/rbac/sidecar-domains.yaml"), "{problem}");
    assert_eq!(watching.report.borrow().problems[0].severity, Severity::Warning);

    let stream = watching.server.asked().await.stream();
    let domain = json!({"metadata": {"name": "bob", "resourceVersion": "5"}, "spec": {"cert": ""}});
    stream.event("ADDED", &domain);
    stream.end_of_list();
    watching.expect(["Init Domain", "InitApply Domain bob", "InitDone Domain"]).await;
    assert_eq!(watching.problems(<[String]>::is_empty).await, [] as [&str; 0]);

    drop(stream);
    watching.server.asked().await.refuse(403);
    watching.problem().await;
    assert!(watching.events.try_recv().is_err(), "what was read stays");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_keeps_its_version_and_disturbs_no_other() {
    let (mut watching, stream) = Watching::read().await;
    let broken = |version: u64| {
        let mut service = service("a", version);
        service["spec"] = json!({"ports": "secret"});
        service
    };
    stream.event("MODIFIED", &broken(11));
    stream.event("MODIFIED", &service("b", 12));
    watching.expect(["Apply Service alice/b"]).await;
    let problem = watching.problem().await;
    assert!(problem.starts_with("Service its-namespace/a: spec.ports"), "{problem}");
    assert!(!problem.contains("secret"), "{problem}");

    stream.event("ERROR", &status(410));
    let stream = watching.server.asked().await.stream();
    stream.event("ADDED", &broken(11));
    stream.end_of_list();
    watching.expect(["Init Service", "InitKeep Service alice/a", "InitDone Service"]).await;
    watching.problem().await;
    stream.event("MODIFIED", &service("a", 13));
    watching.expect(["Apply Service alice/a"]).await;
    assert_eq!(watching.problems(<[String]>::is_empty).await, [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_when_nobody_listens() {
    let (mut watching, stream) = Watching::read().await;
    watching.events.close();
    stream.event("MODIFIED", &service("a", 11));
    timeout(DEADLINE, watching.task).await.expect("an end in time").expect("no panic");
}

#[tokio::test]
async fn what_is_left_of_this_gateway_before_its_start_lets_nobody_grow_older() {
    let now = jiff::Timestamp::now();
    let gateway = |seconds: i64| {
        let heartbeat_time = Some(Time(now + jiff::SignedDuration::from_secs(seconds)));
        let status = model::api::GatewayStatus { heartbeat_time, ..Default::default() };
        model::api::Gateway { status: Some(status), ..model::api::Gateway::new("", Default::default()) }
    };
    let (live_in, live) = watch::channel(Arc::new(names(&["b"])));
    let mut gateways = Gateways::new("b".to_owned(), live_in);
    gateways.heard("a", &gateway(0));
    for seconds in [-20, 1, 16] {
        gateways.heard("b", &gateway(seconds));
    }
    gateways.publish();
    assert_eq!(**live.borrow(), names(&["a", "b"]), "of two heartbeats only one was lost");
}

#[tokio::test]
async fn two_gateways_of_one_name_are_a_problem_until_one_is_left() {
    let gateway = |address: &str, second: i64| {
        let heartbeat = Time(jiff::Timestamp::from_second(second).expect("a time"));
        let status =
            json!({"address": address, "uptime": "2026-01-01T00:00:00Z", "heartbeatTime": heartbeat});
        let raw = json!({"metadata": {"name": "a"}, "status": status});
        watcher::Event::Apply(serde_json::from_value(raw).expect("a raw object"))
    };
    let (events_in, _events) = mpsc::channel(64);
    let (live_in, _live) = watch::channel(Arc::new(names(&["a"])));
    let (board, report) = board();
    let follower = Follower::Gateways(Gateways::new("a".to_owned(), live_in));
    let mut intake = Intake::new(Kind::Gateway, "its-namespace", alice(), follower, events_in, board);
    for (second, address, problems) in [
        (1, "10.0.0.1", 0),
        // It was started anew, elsewhere.
        (2, "10.0.0.2", 0),
        (3, "10.0.0.2", 0),
        (4, "10.0.0.1", 1),
        (5, "10.0.0.1", 1),
        (6, "10.0.0.2", 1),
        (7, "10.0.0.2", 1),
        (8, "10.0.0.2", 1),
        (9, "10.0.0.2", 0),
    ] {
        intake.take(gateway(address, second)).await.expect("a listener");
        assert_eq!(report.borrow().problems.len(), problems, "{second}");
    }
}

#[tokio::test]
async fn gateways_are_counted_by_their_heartbeats_and_this_one_always() {
    let now = jiff::Timestamp::now();
    let gateway = |name: &str, seconds: i64| {
        let time = Time(now + jiff::SignedDuration::from_secs(seconds));
        let status = json!({"heartbeatTime": time});
        serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).expect("a raw object")
    };
    let (events_in, mut events) = mpsc::channel(64);
    let (live_in, live) = watch::channel(Arc::new(names(&["a"])));
    let (board, _report) = board();
    let follower = Follower::Gateways(Gateways::new("a".to_owned(), live_in));
    let mut intake = Intake::new(Kind::Gateway, "its-namespace", alice(), follower, events_in, board);
    let mut take = async |event| intake.take(event).await.expect("a listener");
    take(watcher::Event::Init).await;
    for (name, age) in [("b", 0), ("c", 0), ("old", -1000)] {
        take(watcher::Event::InitApply(gateway(name, age))).await;
    }
    assert_eq!(**live.borrow(), names(&["a"]), "before all are read, nothing is known");
    take(watcher::Event::InitDone).await;
    assert_eq!(**live.borrow(), names(&["a", "b", "c"]));
    for round in 1..=4 {
        take(watcher::Event::Apply(gateway("b", 15 * round))).await;
        take(watcher::Event::Apply(gateway("a", 15 * round))).await;
    }
    assert_eq!(**live.borrow(), names(&["a", "b"]));
    take(watcher::Event::Delete(gateway("b", 60))).await;
    assert_eq!(**live.borrow(), names(&["a"]));
    // To the index, gateways are nothing; it only hears that they were read.
    assert_eq!(describe(&events.recv().await.expect("an event")), "Init Gateway");
    assert_eq!(describe(&events.recv().await.expect("an event")), "InitDone Gateway");
    assert!(events.try_recv().is_err());
}
