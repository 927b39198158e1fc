//! Which files of a folder are manifests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::source::{DEEPEST, is_hidden, is_manifest};

/// The file itself, or the manifests in a folder and in the folders below it, in the order of their names. Names that
/// begin with a dot are passed over, as are the hidden folders through which Kubernetes mounts a ConfigMap. The limit of
/// the nesting also ends circles of symbolic links.
pub(super) fn manifest_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if fs::metadata(path)?.is_dir() {
        collect(path, 0, &mut files)?;
    } else {
        files.push(path.to_owned());
    }
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth == DEEPEST {
        return Err(io::Error::other(format!(
            "folders are nested deeper than {DEEPEST} at {}",
            folder.display()
        )));
    }
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if is_hidden(&entry.file_name()) {
            continue;
        }
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            collect(&path, depth + 1, files)?;
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}
