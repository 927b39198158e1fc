use super::*;

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    let folders = Folders::with(&[
        ("..2026_1/a.yaml", &route("a", "one")),
        ("..2026_1/b.yaml", &route("b", "one")),
        ("..2026_2/a.yaml", &route("a", "two")),
    ]);
    let manifests = folders.manifests();
    symlink("..2026_1", manifests.join("..data")).expect("a link");
    symlink("..data/a.yaml", manifests.join("a.yaml")).expect("a link");
    symlink("..data/b.yaml", manifests.join("b.yaml")).expect("a link");
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a", "DomainRoute alice/b"]);

    symlink("..2026_2", manifests.join("..data_tmp")).expect("a link");
    fs::rename(manifests.join("..data_tmp"), manifests.join("..data")).expect("a renamed link");
    fs::remove_file(manifests.join("b.yaml")).expect("a removed link");
    fs::remove_dir_all(manifests.join("..2026_1")).expect("a removed folder");
    let mut changes = [running.change().await, running.change().await];
    changes.sort();
    assert_eq!(changes, ["Apply DomainRoute alice/a to=two", "Delete DomainRoute alice/b"]);
    assert_eq!(running.report(|report| report.files == Some(1)).await.problems, []);
    folders.write("..2026_2/a.yaml", &route("a", "three"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=three");
}

#[tokio::test]
async fn links_are_followed_and_their_loops_end() {
    let folders = Folders::with(&[("sub/a.yaml", &route("a", "one"))]);
    let manifests = folders.manifests();
    let outside = folders.root.path().join("outside");
    fs::create_dir_all(outside.join("folder")).expect("a folder");
    fs::write(outside.join("b.yaml"), route("b", "one")).expect("a written file");
    fs::write(outside.join("folder/c.yaml"), route("c", "one")).expect("a written file");
    symlink(&manifests, manifests.join("sub/loop")).expect("a link");
    symlink("self.yaml", manifests.join("self.yaml")).expect("a link");
    symlink("nowhere", manifests.join("dangling.yaml")).expect("a link");
    symlink(outside.join("b.yaml"), manifests.join("b.yaml")).expect("a link");
    symlink(outside.join("folder"), manifests.join("linked")).expect("a link");

    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a", "DomainRoute alice/b", "DomainRoute alice/c"]);
    running.problem(&manifests.join("self.yaml"), "cannot be read").await;
    let dangling = running.problem(&manifests.join("dangling.yaml"), "link to nothing").await;
    assert_eq!(dangling.severity, Severity::Warning);

    fs::write(outside.join("b.yaml"), route("b", "two")).expect("a written file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=two");
    fs::write(outside.join("folder/c.yaml"), route("c", "two")).expect("a written file");
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=two");
}

#[tokio::test]
async fn what_a_link_leads_to_may_change_within_the_folder() {
    let folders = Folders::with(&[("text.txt", &route("a", "one")), ("sub/b.yaml", &route("b", "one"))]);
    let manifests = folders.manifests();
    symlink("text.txt", manifests.join("a.yaml")).expect("a link");
    symlink("later.txt", manifests.join("c.yaml")).expect("a link");
    let (mut running, objects) = folders.start().await;
    assert_eq!(names(&objects), ["DomainRoute alice/a", "DomainRoute alice/b"]);
    folders.write("text.txt", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
    folders.write("later.txt", &route("c", "one"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/c to=one");
    // Another way to a folder that is known shows nothing new; the only way to it does.
    symlink("sub", manifests.join("again")).expect("a link");
    running.expect_nothing_but_a_marker(&folders).await;
    fs::rename(manifests.join("sub"), manifests.join(".hidden")).expect("a renamed folder");
    assert_eq!(running.change().await, "Delete DomainRoute alice/b");
    symlink(".hidden", manifests.join("shown")).expect("a link");
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=one");
    fs::remove_file(manifests.join("shown")).expect("a removed link");
    assert_eq!(running.change().await, "Delete DomainRoute alice/b");
}

#[tokio::test]
async fn a_folder_that_is_reached_by_another_path_is_still_watched() {
    let folders = Folders::with(&[("later/a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    // Of two ways to a folder, the first by name counts.
    symlink("later", folders.manifests().join("earlier")).expect("a link");
    running.expect_nothing_but_a_marker(&folders).await;
    folders.write("later/a.yaml", &route("a", "two"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=two");
}

#[tokio::test]
async fn a_link_that_leads_to_nothing_any_more_is_in_no_circle_any_more() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let manifests = folders.manifests();
    symlink("shown", manifests.join(".hidden")).expect("a link");
    symlink(".hidden", manifests.join("shown")).expect("a link");
    let (mut running, _) = folders.start().await;
    running.problem(&manifests.join("shown"), "cannot be read").await;
    fs::remove_file(manifests.join(".hidden")).expect("a removed link");
    assert_eq!(running.report(|report| report.problems.is_empty()).await.files, Some(1));
}
