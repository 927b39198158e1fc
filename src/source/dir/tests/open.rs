use super::*;

#[test]
fn two_meshes_cannot_share_a_state_folder() {
    let folders = Folders::new();
    let first = folders.open().expect("an open source");
    let error = folders.open().expect_err("the folder is in use");
    assert!(matches!(error, SourceError::Locked(_)), "{error}");
    assert!(error.to_string().contains(&folders.state().display().to_string()), "{error}");
    drop(first);
    folders.open().expect("the folder is free again");
}

#[test]
fn folders_that_cannot_be_used_are_named_with_the_remedy() {
    let folders = Folders::new();
    fs::remove_dir(folders.manifests()).expect("a removed folder");
    let error = folders.open().expect_err("no folder").to_string();
    assert!(
        error.contains(&folders.manifests().display().to_string()) && error.contains("create it"),
        "{error}"
    );
    fs::write(folders.manifests(), "").expect("a written file");
    assert!(matches!(folders.open(), Err(SourceError::Manifests { .. })));

    let folders = Folders::new();
    fs::write(folders.state(), "").expect("a written file");
    let error = folders.open().expect_err("no folder").to_string();
    assert!(error.contains("source.directory.state"), "{error}");
}
