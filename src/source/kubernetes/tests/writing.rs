use model::api::{DomainRouteToken, DomainRouteTokenStatus};
use model::{ObjectRef, StatusChange, StatusUpdate};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::announcer::Announcer;
use super::super::routes::News;
use super::super::writer::StatusWriter;
use super::*;

struct Writing {
    server: FakeServer,
    news: mpsc::Sender<News>,
    updates: mpsc::Sender<StatusUpdate>,
    live: watch::Sender<Arc<BTreeSet<String>>>,
    report: watch::Receiver<SourceReport>,
    task: JoinHandle<()>,
    shutdown: DropGuard,
}

impl Writing {
    /// The writer of the gateway `own` among `live` ones, which knows the route `a`.
    async fn start(own: &str, live: &[&str], shown: DomainRouteStatus) -> Self {
        let (client, server) = FakeServer::new();
        let (news, news_out) = mpsc::channel(16);
        let (updates, updates_out) = mpsc::channel(4096);
        let (live, live_out) = watch::channel(Arc::new(names(live)));
        let (board, report) = board();
        let shutdown = CancellationToken::new();
        let (announcer, announcements) =
            Announcer::new(client.clone(), own.to_owned(), "its-namespace", Arc::clone(&board));
        tokio::spawn(announcer.run());
        let writer = StatusWriter::new(
            client,
            "its-namespace".to_owned(),
            own.to_owned(),
            live_out,
            announcements,
            board,
        );
        let task = tokio::spawn(writer.run(alice(), news_out, updates_out, shutdown.clone()));
        let writing = Self { server, news, updates, live, report, task, shutdown: shutdown.drop_guard() };
        writing.sees(known(shown)).await;
        writing
    }

    async fn sees(&self, known: KnownRoute) {
        self.news.send(News::Seen(Box::new(known))).await.expect("a writer");
    }

    async fn wish(&self, name: &str, change: StatusChange) {
        let object =
            ObjectRef { kind: Kind::DomainRoute, namespace: "alice".to_owned(), name: name.to_owned() };
        self.updates.send(StatusUpdate { object, change }).await.expect("a writer");
    }

    async fn wish_condition(&self, type_: &str, status: ConditionStatus) {
        self.wish("a", StatusChange::Condition(condition(type_, status, None))).await;
    }

    /// The next write of a status.
    async fn write(&mut self) -> Asked {
        let asked = self.server.asked().await;
        assert_eq!(asked.method, Method::PATCH, "{asked:?}");
        asked
    }

    async fn problem(&mut self, words: &str) {
        let right = |report: &SourceReport| {
            report
                .problems
                .iter()
                .any(|problem| format!("{}: {}", problem.place, problem.message).contains(words))
        };
        let report = timeout(DEADLINE, self.report.wait_for(right)).await;
        report.unwrap_or_else(|_| panic!("no problem with {words}")).expect("a board");
    }
}

fn at(version: u64, status: DomainRouteStatus) -> KnownRoute {
    KnownRoute { version: version.to_string(), ..known(status) }
}

fn reachable() -> DomainRouteStatus {
    showing(vec![condition("Reachable", ConditionStatus::True, None)])
}

fn tokens(revision: i64) -> DomainRouteTokenStatus {
    let revision_token = DomainRouteToken { revision, ..DomainRouteToken::default() };
    DomainRouteTokenStatus { revision_token, ..DomainRouteTokenStatus::default() }
}

#[tokio::test(start_paused = true)]
async fn the_whole_status_is_applied_to_the_version_that_is_known_and_not_again() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    let asked = writing.write().await;
    assert_eq!(asked.path, "/apis/kuscia.secretflow/v1alpha1/namespaces/its-namespace/domainroutes/a/status");
    assert_eq!(
        (asked.query["fieldManager"].as_str(), asked.query["force"].as_str()),
        ("networkmesh", "true")
    );
    assert_eq!(
        asked.body,
        json!({
            "apiVersion": "kuscia.secretflow/v1alpha1",
            "kind": "DomainRoute",
            "metadata": {"name": "a", "uid": "uid-a", "resourceVersion": "1"},
            "status": reachable(),
        })
    );
    asked.json(200, &route("a", 2, &reachable()));
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    writing.server.is_left_alone().await;
}

#[tokio::test(start_paused = true)]
async fn where_another_was_first_it_is_computed_again_from_what_that_one_wrote() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    let change = StatusChange::Tokens { before: Box::default(), after: Box::new(tokens(2)) };
    writing.wish("a", change).await;
    writing.write().await.refuse(409);
    // Until the watch brings the newer version there is nothing to compute from.
    let theirs = DomainRouteStatus { token_status: tokens(1), ..DomainRouteStatus::default() };
    writing.sees(at(7, theirs)).await;
    let asked = writing.write().await;
    assert_eq!(asked.body["metadata"]["resourceVersion"], "7");
    let expected = DomainRouteStatus { token_status: tokens(1), ..reachable() };
    assert_eq!(asked.body["status"], json!(expected), "their tokens stay");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_status_is_written_is_written_afterwards_in_one() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    let asked = writing.write().await;
    for status in [ConditionStatus::False, ConditionStatus::Unknown, ConditionStatus::True] {
        writing.wish_condition("Authenticated", status).await;
    }
    asked.json(200, &route("a", 2, &reachable()));
    let asked = writing.write().await;
    assert_eq!(asked.body["metadata"]["resourceVersion"], "2");
    let mut both = reachable();
    both.conditions.push(condition("Authenticated", ConditionStatus::True, None));
    assert_eq!(asked.body["status"], json!(both));
    // What the watch brings of the first write is old.
    writing.sees(at(2, reachable())).await;
    asked.json(200, &route("a", 3, &both));
    writing.sees(at(2, reachable())).await;
    writing.server.is_left_alone().await;
}

#[tokio::test(start_paused = true)]
async fn what_follows_from_a_new_spec_is_written_though_both_come_at_once() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    let mut shown = showing(vec![]);
    // Which of two queues is asked first is left to chance.
    for generation in 2..18 {
        let status = if generation % 2 == 0 { ConditionStatus::Unknown } else { ConditionStatus::True };
        let version = 10 * generation;
        let spec = KnownRoute { generation: Some(generation), ..at(version.cast_unsigned(), shown) };
        writing.sees(spec).await;
        writing.wish_condition("Accepted", status).await;
        shown = showing(vec![condition("Accepted", status, None)]);
        let asked = writing.write().await;
        assert_eq!(asked.body["status"], json!(shown));
        asked.json(200, &route("a", version.cast_unsigned() + 1, &shown));
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_server_went_back_to_an_older_version_that_one_is_written_to() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.sees(at(90, showing(vec![]))).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    let asked = writing.write().await;
    assert_eq!(asked.body["metadata"]["resourceVersion"], "90");
    asked.refuse(409);
    let listed = News::Listed(Box::new(at(7, showing(vec![]))));
    writing.news.send(listed).await.expect("a writer");
    assert_eq!(writing.write().await.body["metadata"]["resourceVersion"], "7");
}

#[tokio::test(start_paused = true)]
async fn another_gateway_writes_once_it_is_its_turn() {
    let mut writing = Writing::start("b", &["a", "b"], showing(vec![])).await;
    writing.wish_condition("Accepted", ConditionStatus::True).await;
    writing.server.is_left_alone().await;
    writing.live.send_replace(Arc::new(names(&["b"])));
    let asked = writing.write().await;
    assert_eq!(asked.body["status"]["conditions"][0]["type"], "Accepted");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_gets_what_is_wanted_once_it_is_back() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    let change = StatusChange::Tokens { before: Box::default(), after: Box::new(tokens(1)) };
    writing.wish("a", change).await;
    for _ in 0..10 {
        writing.write().await.fail(io::ErrorKind::ConnectionRefused);
    }
    writing.problem("https://server:6443: nothing listens there").await;
    let asked = writing.write().await;
    assert_eq!(asked.body["status"], json!(reachable()), "nobody waits for the tokens any more");
    asked.json(200, &route("a", 2, &reachable()));
    let well = writing.report.wait_for(|report| report.problems.is_empty());
    timeout(DEADLINE, well).await.expect("an end of the problem").expect("a board");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_reported_and_tried_again() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    writing.write().await.refuse(403);
    writing.problem("statuses of DomainRoutes of https://server:6443: they may not be written").await;
    writing.write().await.refuse(422);
    writing.problem("DomainRoute its-namespace/a: its status cannot be written").await;
    writing.write().await.json(200, &route("a", 2, &reachable()));
    let well = writing.report.wait_for(|report| report.problems.is_empty());
    timeout(DEADLINE, well).await.expect("an end of the problem").expect("a board");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_to_a_route_that_is_gone() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    writing.write().await.refuse(404);
    writing.sees(at(2, showing(vec![]))).await;
    writing.news.send(News::Gone("a".to_owned())).await.expect("a writer");
    tokio::task::yield_now().await;
    writing.wish_condition("Reachable", ConditionStatus::True).await;
    writing.server.is_left_alone().await;
    assert_eq!(writing.report.borrow().problems, []);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_updates_keeps_few_writes_under_way() {
    let mut writing = Writing::start("a", &["a"], showing(vec![])).await;
    let named = |name: String| KnownRoute { uid: format!("uid-{name}"), name, ..known(showing(vec![])) };
    for number in 0..100 {
        writing.sees(named(format!("r{number:02}"))).await;
        let change = StatusChange::Destination { authorized: true, unreachable: false };
        writing.wish(&format!("r{number:02}"), change).await;
    }
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(writing.write().await);
    }
    // Within the time that a write may take.
    let more = timeout(Duration::from_secs(5), writing.server.asked()).await;
    assert!(more.is_err(), "{more:?}");
    let mut written = BTreeSet::new();
    let authorized = DomainRouteStatus { is_destination_authorized: true, ..DomainRouteStatus::default() };
    while written.len() < 100 {
        let asked = match waiting.pop() {
            Some(asked) => asked,
            None => writing.write().await,
        };
        let name = asked.body["metadata"]["name"].as_str().expect("a name").to_owned();
        asked.json(200, &route(&name, 2, &authorized));
        assert!(written.insert(name.clone()), "{name} is written twice");
    }
    writing.server.is_left_alone().await;
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_turns_is_announced_and_not_too_often() {
    let mut writing = Writing::start("a", &["a"], reachable()).await;
    let turn = async |writing: &mut Writing, version, status| {
        writing.wish_condition("Reachable", status).await;
        let asked = writing.write().await;
        asked.json(200, &route("a", version, &showing(vec![condition("Reachable", status, None)])));
    };
    turn(&mut writing, 2, ConditionStatus::False).await;
    let asked = writing.server.asked().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/its-namespace/events")
    );
    let event = asked.body.clone();
    assert_eq!(
        (&event["type"], &event["reason"], &event["note"]),
        (&json!("Warning"), &json!("Test"), &json!("as tested"))
    );
    assert_eq!((&event["regarding"]["name"], &event["regarding"]["uid"]), (&json!("a"), &json!("uid-a")));
    // Events that may not be written hurt nothing else.
    asked.refuse(403);
    writing.problem("Events of https://server:6443: they may not be written").await;
    turn(&mut writing, 3, ConditionStatus::True).await;
    let asked = writing.server.asked().await;
    assert_eq!(asked.body["type"], "Normal");
    asked.json(201, &event);
    // So soon, it is no news that it fails again.
    turn(&mut writing, 4, ConditionStatus::False).await;
    writing.server.is_left_alone().await;
    turn(&mut writing, 5, ConditionStatus::True).await;
    let asked = writing.server.asked().await;
    assert_eq!(asked.body["type"], "Normal");
    asked.json(201, &event);
    let well = writing.report.wait_for(|report| report.problems.is_empty());
    timeout(DEADLINE, well).await.expect("an end of the problem").expect("a board");
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_at_the_end_is_still_written() {
    let Writing { mut server, news, updates, live, report, task, shutdown } =
        Writing::start("a", &["a"], showing(vec![])).await;
    let object = ObjectRef { kind: Kind::DomainRoute, namespace: "alice".to_owned(), name: "a".to_owned() };
    let change = StatusChange::Condition(condition("Reachable", ConditionStatus::True, None));
    updates.try_send(StatusUpdate { object, change }).expect("room");
    drop(shutdown);
    let asked = timeout(DEADLINE, server.asked()).await.expect("a write");
    asked.json(200, &route("a", 2, &reachable()));
    timeout(DEADLINE, task).await.expect("an end in time").expect("no panic");
    drop((news, live, report));
}
