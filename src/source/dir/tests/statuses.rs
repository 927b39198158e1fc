use super::*;

#[tokio::test]
async fn a_status_is_on_disk_before_it_is_said_and_survives_a_restart() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    running.update("a", first_tokens("sealed")).await;
    let said = status_of(&running.event().await);
    assert_eq!(said.token_status, tokens("sealed"));
    assert_eq!(folders.read_status("a"), said);
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&folders.status_file("a")), 0o600);
    assert_eq!(mode(&folders.state()), 0o700);

    // The same again changes nothing; a status of no route is nobody's.
    running.update("a", first_tokens("sealed")).await;
    running.update("gone", first_tokens("sealed")).await;
    running.update("a", StatusChange::Destination { authorized: true, unreachable: false }).await;
    assert!(status_of(&running.event().await).is_destination_authorized);
    assert!(!folders.status_file("gone").exists());

    // The end of the process is no chance to tidy up.
    running.task.abort();
    let ended = timeout(DEADLINE, &mut running.task).await.expect("an end in time");
    assert!(ended.expect_err("an aborted task").is_cancelled());
    let (_running, objects) = folders.start().await;
    let [Object::DomainRoute(route)] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!(route.status.as_ref(), Some(&folders.read_status("a")));
}

#[tokio::test]
async fn a_status_outlives_the_replacement_of_its_manifest() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let (mut running, _) = folders.start().await;
    running.update("a", first_tokens("sealed")).await;
    running.event().await;
    folders.remove("a.yaml");
    assert_eq!(running.change().await, "Delete DomainRoute alice/a");
    folders.write("a.yaml", &route("a", "two"));
    assert_eq!(status_of(&running.event().await).token_status, tokens("sealed"));
}

#[tokio::test]
async fn a_status_in_a_manifest_counts_only_where_the_state_folder_has_none() {
    let written = |token: &str| {
        let status = serde_json::json!({"tokenStatus": tokens(token)});
        route("a", "one") + &format!("status: {status}\n")
    };
    let folders = Folders::with(&[("a.yaml", &written("written"))]);
    let (mut running, objects) = folders.start().await;
    assert_eq!(status_of(&Event::Apply(objects[0].clone())).token_status, tokens("written"));
    let status = StatusChange::Destination { authorized: true, unreachable: false };
    running.update("a", status).await;
    let kept = status_of(&running.event().await);
    assert_eq!((kept.token_status, kept.is_destination_authorized), (tokens("written"), true));
    folders.write("a.yaml", &written("other"));
    running.expect_nothing_but_a_marker(&folders).await;
}

#[tokio::test]
async fn updates_that_wait_are_kept_even_when_no_event_is_taken_and_the_source_is_stopped() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let mut running = Running::start(folders.open().expect("an open source"));
    // The queue of events is full from here on, and the route was read.
    running.report(|report| report.synced).await;
    for second in 0..500 {
        let condition = Condition {
            type_: "Reachable".to_owned(),
            status: ConditionStatus::True,
            reason: "Test".to_owned(),
            message: second.to_string(),
            gateway: None,
            last_transition_time: None,
        };
        timeout(DEADLINE, running.update("a", StatusChange::Condition(condition)))
            .await
            .expect("room in time");
    }
    running.stop().await;
    assert_eq!(folders.read_status("a").conditions[0].message, "499");
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_said_reported_and_written_later() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one")), ("b.yaml", &route("b", "one"))]);
    let (mut running, _) = folders.start().await;
    let statuses = folders.state().join("domainroutes");
    fs::remove_dir(&statuses).expect("a removed folder");
    running.update("a", first_tokens("a")).await;
    assert_eq!(status_of(&running.event().await).token_status, tokens("a"));
    running.problem(&folders.status_file("a"), "cannot be written").await;
    fs::create_dir(&statuses).expect("a folder");
    running.update("b", first_tokens("b")).await;
    assert_eq!(running.change().await, "Apply DomainRoute alice/b to=one");
    assert_eq!(folders.read_status("a").token_status, tokens("a"));
    running.report(|report| report.problems.is_empty()).await;
}

#[tokio::test]
async fn what_a_killed_mesh_left_behind_is_ignored_and_what_is_corrupt_is_set_aside() {
    let folders = Folders::with(&[("ab.yaml", &(route("a", "one") + &route("b", "one")))]);
    folders.write_status("a", "{\"tokenStatus\": {\"tok");
    let status = DomainRouteStatus { token_status: tokens("good"), ..Default::default() };
    folders.write_status("b", &serde_json::to_string(&status).expect("JSON"));
    let leftover = folders.state().join("domainroutes/.abcdef.tmp");
    fs::write(&leftover, "half").expect("a written file");

    let (_running, objects) = folders.start().await;
    assert!(!leftover.exists());
    let corrupt = folders.state().join("domainroutes/a.json.corrupt");
    assert_eq!(fs::read_to_string(corrupt).expect("a file"), "{\"tokenStatus\": {\"tok");
    assert!(!folders.status_file("a").exists());
    let [Object::DomainRoute(a), Object::DomainRoute(b)] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!((&a.status, &b.status), (&None, &Some(status)));
}

#[tokio::test]
async fn the_status_of_a_route_that_is_gone_for_a_week_is_removed() {
    let folders = Folders::with(&[("a.yaml", &route("a", "one"))]);
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, days) in [("a", 30), ("old", 8), ("young", 6)] {
        folders.write_status(name, "{}");
        let file = fs::File::options().append(true).open(folders.status_file(name)).expect("a file");
        file.set_modified(SystemTime::now() - days * day).expect("a changed time");
    }
    let (mut running, _) = folders.start().await;
    // Statuses are pruned before anything is delivered.
    running.expect_nothing_but_a_marker(&folders).await;
    let left = ["a", "old", "young"].map(|name| folders.status_file(name).exists());
    assert_eq!(left, [true, false, true]);
}
