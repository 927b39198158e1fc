//! The directory of manifests, as editors, Kubernetes and accidents change it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use networkmesh::harness::domain::{Domain, service_manifest};
use serde_json::{Value, json};

use super::world::{Alone, PROGRAM, Source, World, confirmed_revision, echoed, eventually, get, token};

scenes!(a_killed_mesh_finds_its_tokens_again);

fn manifest(name: &str) -> Value {
    service_manifest(name, &["10.0.0.1:80".parse().unwrap()])
}

/// Waits until these services, and no others, are in force.
async fn in_force(domain: &Domain, services: &[&str]) {
    let wanted: Vec<String> = services.iter().map(|name| format!("{name}.alice.svc")).collect();
    eventually(&format!("in force: {services:?}"), async || {
        let status = domain.status().await.unwrap();
        let hosts: Vec<String> = status.services.iter().map(|service| service.host.clone()).collect();
        if hosts == wanted { Ok(()) } else { Err(format!("{hosts:?}, {:?}", status.problems)) }
    })
    .await;
}

#[tokio::test]
async fn every_manifest_below_the_folder_is_read_whatever_its_form() {
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    let manifests = world.alice.folder.join("manifests");
    fs::create_dir_all(manifests.join("deep/er")).unwrap();
    fs::create_dir_all(manifests.join(".hidden")).unwrap();
    let documents = |name: &str| {
        let items = manifest(name);
        format!("# {name}\n---\n{}\n---\n{}\n---\n", items["items"][0], items["items"][1])
    };
    fs::write(manifests.join("a.json"), manifest("a").to_string()).unwrap();
    fs::write(manifests.join("deep/b.yaml"), documents("b")).unwrap();
    fs::write(manifests.join("deep/er/c.yml"), documents("c")).unwrap();
    for left_out in ["notes.txt", ".d.yaml", ".hidden/d.yaml", "d.yaml~", "d.yaml.swp"] {
        fs::write(manifests.join(left_out), documents("d")).unwrap();
    }
    world.start_mesh().await;
    in_force(&world.alice, &["a", "b", "c"]).await;

    // Folders that come later are watched too.
    fs::create_dir_all(manifests.join("new/er")).unwrap();
    fs::write(manifests.join("new/er/e.yaml"), documents("e")).unwrap();
    in_force(&world.alice, &["a", "b", "c", "e"]).await;
    fs::remove_dir_all(manifests.join("deep")).unwrap();
    in_force(&world.alice, &["a", "e"]).await;
    fs::write(manifests.join("new/er/e.yaml"), documents("f")).unwrap();
    in_force(&world.alice, &["a", "f"]).await;
}

#[tokio::test]
async fn a_configmap_is_followed_through_its_symbolic_links() {
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    let manifests = world.alice.folder.join("manifests");
    // As the kubelet lays it out: file → ..data/file, ..data → a folder for each version.
    let publish = |version: &str, service: &str| {
        let folder = manifests.join(version);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("web.json"), manifest(service).to_string()).unwrap();
        symlink(version, manifests.join("..data_tmp")).unwrap();
        fs::rename(manifests.join("..data_tmp"), manifests.join("..data")).unwrap();
    };
    publish("..1", "first");
    symlink("..data/web.json", manifests.join("web.json")).unwrap();
    world.start_mesh().await;
    in_force(&world.alice, &["first"]).await;
    publish("..2", "second");
    fs::remove_dir_all(manifests.join("..1")).unwrap();
    in_force(&world.alice, &["second"]).await;
    publish("..3", "third");
    in_force(&world.alice, &["third"]).await;
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_objects_until_it_is_mended_or_removed() {
    let mut world = Alone::laid_out(Source::Directory, &json!({})).await;
    world.alice.apply("web.json", &manifest("web")).await.unwrap();
    world.alice.apply("other.json", &manifest("other")).await.unwrap();
    world.start_mesh().await;
    in_force(&world.alice, &["other", "web"]).await;

    world.alice.write("manifests/web.json", "{\"kind\": ").unwrap();
    eventually("the file is named", async || {
        let problems = world.alice.status().await.unwrap().problems;
        if problems.iter().any(|problem| problem.contains("web.json")) {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    })
    .await;
    world.alice.apply("third.json", &manifest("third")).await.unwrap();
    in_force(&world.alice, &["other", "third", "web"]).await;

    world.alice.apply("web.json", &manifest("mended")).await.unwrap();
    in_force(&world.alice, &["mended", "other", "third"]).await;
    world.alice.write("manifests/web.json", "\u{0}\u{1}").unwrap();
    world.alice.remove("web.json").await.unwrap();
    in_force(&world.alice, &["other", "third"]).await;
}

async fn a_killed_mesh_finds_its_tokens_again(on: Source) {
    let mut world =
        World::with_routes(on, |route| route["spec"]["tokenConfig"]["rollingUpdatePeriod"] = json!(30)).await;
    for _ in 0..5 {
        let before = token(&world.alice, "bob").await;
        world.alice.mesh.take().unwrap().kill9().await.unwrap();
        world.alice.start_mesh(Path::new(PROGRAM)).await.unwrap();
        confirmed_revision(&world.alice, &world.bob).await;
        let status = world.alice.status().await.unwrap();
        assert_eq!(status.source.problems, [], "{status:?}");
        if token(&world.alice, "bob").await == before {
            assert_eq!(echoed(&get(&world.alice, "echo.bob.svc", "/").await).service, "echo.bob");
            return;
        }
    }
    panic!("the token changed with each restart");
}
