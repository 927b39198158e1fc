use super::*;

#[tokio::test]
async fn of_two_objects_of_one_name_the_one_in_force_stays() {
    let folders = Folders::with(&[("b.yaml", &route("a", "b")), ("c.yaml", &route("a", "c"))]);
    let (b, c) = (folders.manifests().join("b.yaml"), folders.manifests().join("c.yaml"));
    let (mut running, objects) = folders.start().await;
    assert_eq!(describe(&Event::Apply(objects[0].clone())), "Apply DomainRoute alice/a to=b");
    running.problem(&c, &b.display().to_string()).await;

    folders.write("a.yaml", &route("a", "a"));
    running.problem(&folders.manifests().join("a.yaml"), &b.display().to_string()).await;
    folders.remove("a.yaml");
    folders.remove("b.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=c");
    running.report(|report| report.problems.is_empty()).await;

    folders.write("c.yaml", &(route("a", "first") + &route("a", "second")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=first");
    running.problem(&c, "written twice in this file").await;
}

#[tokio::test]
async fn a_cluster_route_stands_for_a_route_unless_that_is_written() {
    let others = route_of("ClusterDomainRoute", "b-c", "one").replace("alice", "carol");
    let folders = Folders::with(&[("a.yaml", &(route_of("ClusterDomainRoute", "a-b", "cluster") + &others))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(
        names(&objects),
        ["DomainRoute alice/a-b", "ClusterDomainRoute a-b", "ClusterDomainRoute b-c"]
    );
    folders.write("b.yaml", &route("a-b", "own"));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a-b to=own");
    folders.remove("b.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a-b to=cluster");
    folders.remove("a.yaml");
    let changes = [running.change().await, running.change().await, running.change().await];
    assert_eq!(
        changes,
        ["Delete DomainRoute alice/a-b", "Delete ClusterDomainRoute a-b", "Delete ClusterDomainRoute b-c"]
    );
}

#[tokio::test]
async fn the_next_file_in_line_is_taken_as_it_is_when_its_turn_comes() {
    let folders = Folders::with(&[("b.yaml", &route("a", "b")), ("c.yaml", &route("a", "c"))]);
    let (mut running, _) = folders.start().await;
    folders.write("c.yaml", &route("a", "changed"));
    running.expect_nothing_but_a_marker(&folders).await;
    folders.remove("b.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=changed");

    // One that is broken by then was never in force, so it has no last good version.
    folders.write("d.yaml", &(route("a", "d") + &route("d", "d")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/d to=d");
    folders.write("d.yaml", "broken: [");
    running.problem(&folders.manifests().join("d.yaml"), "").await;
    folders.remove("c.yaml");
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    folders.write("d.yaml", &(route("a", "d") + &route("d", "d")));
    assert_eq!(running.change().await, "Apply DomainRoute alice/a to=d");
}

#[tokio::test]
async fn objects_that_move_to_other_files_say_nothing() {
    let folders =
        Folders::with(&[("m.yaml", &(route("a", "one") + &route("b", "one") + &route("c", "one")))]);
    let (mut running, _) = folders.start().await;
    folders.write("a.yaml", &route("a", "one"));
    folders.write("z.yaml", &route("b", "one"));
    folders.write("m.yaml", &route("c", "one"));
    running.report(|report| report.files == Some(3) && report.problems.is_empty()).await;
    running.expect_nothing_but_a_marker(&folders).await;
}

#[tokio::test]
async fn the_route_of_a_cluster_route_comes_from_the_file_that_has_it_in_force() {
    let cluster_route = |host: &str| route_of("ClusterDomainRoute", "a-b", host);
    let folders = Folders::with(&[("b.yaml", &cluster_route("b")), ("own.yaml", &route("a-b", "own"))]);
    let (mut running, _) = folders.start().await;
    folders.write("a.yaml", &cluster_route("a"));
    folders.remove("own.yaml");
    assert_eq!(running.change().await, "Apply DomainRoute alice/a-b to=b");
    folders.remove("b.yaml");
    let mut changes = [running.change().await, running.change().await];
    changes.sort();
    assert_eq!(changes, ["Apply ClusterDomainRoute a-b", "Apply DomainRoute alice/a-b to=a"]);
    folders.write("a.yaml", &cluster_route("a").replace("source: alice", "source: carol"));
    let changes = [running.change().await, running.change().await];
    assert_eq!(changes, ["Apply ClusterDomainRoute a-b", "Delete DomainRoute alice/a-b"]);
}

#[tokio::test]
async fn a_cluster_route_that_makes_a_detour_is_also_for_the_domain_that_it_names() {
    let others = route_of("ClusterDomainRoute", "b-c", "one").replace("source: alice", "source: carol");
    let detour = |method: &str, by: &str| {
        format!("{others}  transit: {{transitMethod: {method}, domain: {{domainID: {by}}}}}\n")
    };
    let folders = Folders::with(&[("a.yaml", &others)]);
    let (mut running, _) = folders.start().await;
    for others in [detour("THIRD-DOMAIN", "dave"), detour("REVERSE-TUNNEL", "alice")] {
        folders.write("a.yaml", &detour("THIRD-DOMAIN", "alice"));
        let mut changes = [running.change().await, running.change().await];
        changes.sort();
        assert_eq!(changes, ["Apply ClusterDomainRoute b-c", "Apply DomainRoute alice/b-c to=one"]);
        folders.write("a.yaml", &others);
        let mut changes = [running.change().await, running.change().await];
        changes.sort();
        assert_eq!(changes, ["Apply ClusterDomainRoute b-c", "Delete DomainRoute alice/b-c"]);
    }
}
