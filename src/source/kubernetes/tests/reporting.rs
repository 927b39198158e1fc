use super::super::KINDS;
use super::super::board::Defect;
use super::super::trouble::{Part, Trouble};
use super::*;

fn refused() -> kube::Error {
    kube::Error::Service(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)))
}

#[test]
fn whatever_is_wrong_with_the_server_is_said_once_with_what_still_holds() {
    let (board, report) = board();
    let services = Part::Objects(Kind::Service);
    board.troubled(services, Trouble::of(&refused(), services));
    board.troubled(Part::Statuses, Trouble::silence());
    let problem = report.borrow().problems[0].clone();
    assert_eq!((problem.place.as_str(), report.borrow().problems.len()), ("https://server:6443", 1));
    assert!(!problem.message.contains("Envoy keeps"), "nothing was read: {problem:?}");

    KINDS.into_iter().for_each(|kind| board.read(kind, &names(&["a"])));
    let synced = report.borrow().clone();
    assert_eq!((synced.synced, synced.objects), (true, 5), "gateways are no objects in force");
    assert!(synced.problems[0].message.contains("Envoy keeps its configuration"), "{synced:?}");

    board.works(services);
    assert!(report.borrow().problems[0].message.contains("does not answer in time"));
    board.works(Part::Statuses);
    assert_eq!(report.borrow().problems, []);
    assert!(report.borrow().synced);
}

#[test]
fn what_is_wrong_with_an_object_is_forgotten_with_the_object() {
    let (board, report) = board();
    let object = |name: &str| model::ObjectRef {
        kind: Kind::DomainRoute,
        namespace: "its-namespace".to_owned(),
        name: name.to_owned(),
    };
    for name in ["a", "b", "c"] {
        board.broken(object(name), Defect::Unreadable, "is broken".to_owned());
        board.broken(object(name), Defect::Unwritable, "is refused".to_owned());
    }
    board.mended(&object("a"), Defect::Unwritable);
    board.read(Kind::DomainRoute, &names(&["a", "b"]));
    let problems: Vec<String> = report
        .borrow()
        .problems
        .iter()
        .map(|problem| format!("{} {}", problem.place, problem.message))
        .collect();
    assert_eq!(
        problems,
        [
            "DomainRoute its-namespace/a is broken",
            "DomainRoute its-namespace/b is broken",
            "DomainRoute its-namespace/b is refused"
        ]
    );
}

#[test]
fn a_report_is_published_only_when_it_changes() {
    let (board, mut report) = board();
    report.mark_unchanged();
    board.works(Part::Events);
    assert!(!report.has_changed().expect("a board"));
    board.troubled(Part::Events, Trouble::silence());
    assert!(report.has_changed().expect("a board"));
}

#[test]
fn failures_of_connections_are_told_apart() {
    let of = |error: Box<dyn std::error::Error + Send + Sync>| {
        let Trouble { what, remedy, .. } = Trouble::of(&kube::Error::Service(error), Part::Statuses);
        format!("{what}; {remedy}")
    };
    let of_kind = |kind: io::ErrorKind| of(Box::new(io::Error::from(kind)));
    assert!(of_kind(io::ErrorKind::ConnectionRefused).contains("nothing listens there"));
    assert!(of_kind(io::ErrorKind::TimedOut).contains("does not answer in time"));
    assert!(of_kind(io::ErrorKind::ConnectionReset).contains("closes connections"));
    let tls = of("invalid peer certificate: UnknownIssuer".into());
    assert!(tls.contains("UnknownIssuer") && tls.contains("certificate-authority"), "{tls}");
    assert!(of("dns error: no such host".into()).contains("its name cannot be resolved"));
}

#[test]
fn an_answer_that_cannot_be_understood_is_not_shown() {
    let error = serde_json::from_str::<u8>("\"secret\"").expect_err("no number");
    let trouble = Trouble::of(&kube::Error::SerdeError(error), Part::Statuses);
    assert!(!format!("{trouble:?}").contains("secret"), "{trouble:?}");
}

#[test]
fn what_answers_with_a_page_is_quoted_in_short() {
    let page = kube::core::Status::failure(&"<p>\n".repeat(100_000), "").with_code(502);
    let trouble = Trouble::of(&kube::Error::Api(Box::new(page)), Part::Statuses);
    assert!(trouble.what.starts_with("it answers 502 <p><p>"), "{}", trouble.what);
    assert!(trouble.what.len() < 400 && !trouble.what.contains('\n'));
}
