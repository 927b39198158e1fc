use super::*;

#[tokio::test]
async fn a_broken_file_keeps_its_objects_and_hurts_no_other() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let file = folders.manifests().join("a.yaml");
    folders.write("a.yaml", "kind: [unclosed\n\t: :");
    assert_eq!(running.problem(&file, "").await.severity, Severity::Error);
    folders.write("b.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    folders.write("a.yaml", "");
    running.problem(&file, "is empty").await;
    fs::write(&file, [0xff, 0xfe, 0x00]).expect("a written file");
    running.problem(&file, "cannot be read").await;
    folders.write("a.yaml", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    assert_eq!(running.report(|report| report.problems.is_empty()).await.objects, 2);
}

#[tokio::test]
async fn a_broken_document_keeps_its_object_while_the_others_of_its_file_change() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    let (mut running, _) = folders.start().await;
    let broken = route("a", "one").replace("port: 80", "port: eighty");
    folders.write("ab.yaml", &(broken + &route("b", "two")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    let file = folders.manifests().join("ab.yaml");
    let problem = running.problem(&file, "DomainRoute alice/a: spec.endpoint.ports[0].port").await;
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(running.report(|_| true).await.objects, 2);
    folders.write("ab.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
}

#[tokio::test]
async fn names_that_kubernetes_refuses_are_refused() {
    let folders = Folders::with(&[(
        "a.yaml",
        &(route("../../lock", "one") + &route("ok.1", "one") + &route("Up", "x")),
    )]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/ok.1"]);
    let file = folders.manifests().join("a.yaml");
    running.problem(&file, "DomainRoute alice/../../lock: metadata.name").await;
    running.problem(&file, "DomainRoute alice/Up: metadata.name").await;
}

#[tokio::test]
async fn unknown_fields_are_warnings_and_other_kinds_are_nothing() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let folders = Folders::with(&[("a.yaml", &(route("a", "one") + "  endpiont: {}\n" + pod))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a"]);
    let report = running.report(|report| report.synced).await;
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].severity, Severity::Warning);
    assert!(report.problems[0].message.contains("spec.endpiont"), "{}", report.problems[0].message);
}

#[tokio::test]
async fn a_file_of_more_than_4_mib_is_refused() {
    let large = route("a", "one") + &"# padding\n".repeat(450_000);
    let folders = Folders::with(&[("a.yaml", &large), ("b.yaml", &route("b", "one"))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/b"]);
    running.problem(&folders.manifests().join("a.yaml"), "more than 4 MiB").await;
}
