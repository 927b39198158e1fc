use super::*;

#[tokio::test]
async fn the_first_reading_has_the_objects_of_all_files_in_nested_folders() {
    let service = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}"#;
    let folders = Folders::with(&[
        ("routes/deep/er/a.yaml", &(route("a", "one") + &route("b", "two"))),
        ("domains.yml", &domain("bob")),
        ("service.json", service),
        ("notes.txt", &route("not-in-a-manifest", "x")),
        (".hidden.yaml", &route("hidden", "x")),
        (".git/x.yaml", &route("hidden", "x")),
    ]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(
        names(&objects),
        ["Domain bob", "DomainRoute alice/a", "DomainRoute alice/b", "Service alice/s"]
    );
    let report = running.report(|report| report.synced).await;
    assert_eq!((report.kind, report.files, report.objects), (SourceKind::Directory, Some(3), 4));
    assert_eq!(report.problems, []);
    assert!(report.last_read.is_some());
}

#[tokio::test]
async fn changes_of_files_become_the_changes_of_their_objects() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    let (mut running, _) = folders.start().await;
    folders.write("ab.yaml", &(route("a", "one") + &route("b", "two")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    folders.write("ab.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    folders.write("new/folder/c.yaml", &route("c", "one"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=one");
    folders.write("new/folder/c.yaml", &route("c", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=two");
    folders.remove("ab.yaml");
    assert_eq!(running.change().await, "Delete DomainRoute alice/b");
    fs::remove_dir_all(folders.manifests().join("new")).expect("a removed folder");
    assert_eq!(running.change().await, "Delete DomainRoute alice/c");
}

#[tokio::test]
async fn a_file_that_only_looks_changed_says_nothing() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    folders.write("a.yaml", &format!("# A comment\n{}", route("a", "one")));
    let moved = folders.manifests().join("elsewhere.yaml");
    fs::rename(folders.manifests().join("a.yaml"), moved).expect("a renamed file");
    running.expect_nothing_but_a_marker(&folders).await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_another_replaces_it() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    folders.write(".a.yaml.new", &route("a", "two"));
    let manifests = folders.manifests();
    fs::rename(manifests.join(".a.yaml.new"), manifests.join("a.yaml")).expect("a renamed file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
}

#[tokio::test]
async fn a_folder_that_goes_away_deletes_nothing_and_is_noticed_when_it_is_back() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let aside = folders.root.path().join("aside");
    fs::rename(folders.manifests(), &aside).expect("a renamed folder");
    running.problem(&folders.manifests(), "its objects stay").await;
    fs::write(aside.join("a.yaml"), route("a", "two")).expect("a written file");
    fs::rename(&aside, folders.manifests()).expect("a renamed folder");
    running.report(|report| report.problems.is_empty()).await;
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    folders.write("b.yaml", &route("b", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
}

#[tokio::test]
async fn a_state_folder_inside_the_manifests_is_not_read_as_manifests() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let settings = DirectorySettings { path: folders.manifests(), state: folders.manifests() };
    let source = DirectorySource::open(settings, "alice".parse().expect("an ID")).expect("an open source");
    let mut running = Running::start(source);
    running.first_reading().await;
    running.update("a", first_tokens("sealed")).await;
    running.event().await;
    running.expect_nothing_but_a_marker(&folders).await;
    assert_eq!(running.report(|report| report.files == Some(2)).await.problems, []);
}

#[tokio::test]
async fn a_folder_that_moves_takes_its_objects_along() {
    let folders = Folders::with(&[("z/deep/a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let manifests = folders.manifests();
    for (from, to) in [("z", "y"), ("y", "z"), ("z", "w")] {
        fs::rename(manifests.join(from), manifests.join(to)).expect("a renamed folder");
    }
    running.expect_nothing_but_a_marker(&folders).await;
    folders.write("w/deep/a.yaml", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    fs::rename(manifests.join("w"), folders.root.path().join("aside")).expect("a renamed folder");
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    fs::rename(folders.root.path().join("aside"), manifests.join("w")).expect("a renamed folder");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
}

#[tokio::test]
async fn the_first_reading_of_many_files_is_one_reading() {
    let folders = Folders::new();
    for number in 0..1000 {
        folders.write(&format!("{number:03}.yaml"), &domain(&format!("d{number:03}")));
    }
    folders.write("again.yaml", &domain("d000"));
    let (mut running, objects) = folders.start().await;
    assert_eq!(objects.len(), 1000);
    let report = running.report(|report| report.synced).await;
    assert_eq!((report.files, report.objects, report.problems.len()), (Some(1001), 1000, 1));
}

/// Writes through another name of a file outside the manifests: nobody tells that its text changed.
fn write_unnoticed(folders: &Folders, name: &str, text: &str) {
    let outside = folders.root.path().join("outside.yaml");
    if !outside.exists() {
        fs::hard_link(folders.manifests().join(name), &outside).expect("a second name");
    }
    fs::write(outside, text).expect("a written file");
}

#[tokio::test]
async fn a_change_of_one_file_has_no_other_looked_at() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    write_unnoticed(&folders, "b.yaml", &route("b", "two"));
    folders.write("a.yaml", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    running.expect_nothing_but_a_marker(&folders).await;
    // What happens to folders can hide or show files, so it has everything looked at.
    fs::create_dir(folders.manifests().join("new")).expect("a folder");
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_tells_of_is_found_after_a_while() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    write_unnoticed(&folders, "a.yaml", &route("a", "two"));
    let event = running.events.recv().await.expect("a source that runs");
    assert_eq!(describe(&event), "Apply DomainRoute alice/a to=two");
}
