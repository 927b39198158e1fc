//! Files of keys and certificates.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use model::Problem;
use zeroize::Zeroizing;

/// Longer than any key, and than the bundle of all CAs that a system trusts.
const MAX_BYTES: usize = 1 << 20;

/// Reads a file of PEM, which may hold a private key.
///
/// # Errors
/// The file cannot be read, is no text, or is longer than 1 MiB.
pub(crate) fn read_pem_file(file: &Path) -> Result<Zeroizing<String>, Problem> {
    let problem = |problem: String| {
        Problem::new(format!("{}: {problem}", file.display()), "name a file of PEM that this user can read")
    };
    let mut text = Zeroizing::new(String::new());
    File::open(file)
        .and_then(|open| open.take(MAX_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if text.len() > MAX_BYTES {
        return Err(problem(format!("is longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// Warns of a private key that others than its owner and group can read, or others than its owner can change.
pub(crate) fn warn_of_exposed_key(file: &Path) {
    let is_exposed =
        |metadata: fs::Metadata| metadata.is_file() && metadata.permissions().mode() & 0o037 != 0;
    if fs::metadata(file).is_ok_and(is_exposed) {
        tracing::warn!(file = %file.display(), "other users can read or change this private key; run `chmod 600` on it");
    }
}
