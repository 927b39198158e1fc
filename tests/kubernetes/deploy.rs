//! The manifests right in `deploy/`, which run the programs.

use std::fs;

use crate::cluster;

#[tokio::test]
async fn the_api_server_takes_every_manifest() {
    let admin = cluster::admin().await;
    for namespace in ["deployed", "networkmesh"] {
        cluster::namespace(&admin, namespace).await;
    }
    let mut kinds = Vec::new();
    for entry in fs::read_dir(cluster::deployed("")).unwrap() {
        let file = entry.unwrap().path();
        if !file.is_file() {
            continue;
        }
        // As the comments in them say: another domain takes the place of alice.
        let yaml = fs::read_to_string(&file).unwrap().replace("alice", "deployed");
        for object in cluster::parse(&yaml) {
            let taken = cluster::try_apply(&admin, &object).await;
            taken.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            kinds.push(object.types.unwrap().kind);
        }
    }
    for kind in ["ConfigMap", "Deployment", "Service", "NetworkPolicy"] {
        assert!(kinds.iter().any(|known| known == kind), "{kinds:?}");
    }
}
