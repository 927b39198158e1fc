//! Questions to a running mesh, over its admin interface.

use ::http::{Request, StatusCode};
use bytes::Bytes;
use model::Problem;
use tokio::runtime::Builder;

use super::{AdminArgs, CommandError};
use crate::http::{Cause, Limits, send};

/// A dump of a large domain takes some megabytes.
const MAX_ANSWER: usize = 1 << 30;

/// The body of `path`, which is relative to the admin interface.
pub(super) fn ask(args: &AdminArgs, path: &str) -> Result<Bytes, CommandError> {
    let problem = |problem: String, remedy: &str| CommandError::Mesh(Problem::new(problem, remedy));
    let request =
        Request::get(path).body(Bytes::new()).map_err(|error| problem(error.to_string(), "report this"))?;
    let limits = Limits { body: MAX_ANSWER, ..Limits::default() };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let response = runtime.block_on(send(&args.admin, request, limits)).map_err(|error| {
        let remedy = match error.cause {
            Cause::Refused => "start the mesh with `networkmesh run`, or pass its listen.admin as --admin",
            _ => "pass the mesh's listen.admin as --admin",
        };
        problem(format!("the mesh does not answer: {error}"), remedy)
    })?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    let message = String::from_utf8_lossy(response.body());
    let message: String = message.chars().filter(|c| !c.is_control()).take(500).collect();
    Err(problem(format!("{} answers {}", args.admin, response.status()), &message))
}

/// An answer that is not what this program expects comes from another one, or another version.
pub(super) fn misunderstood(args: &AdminArgs, error: &serde_json::Error) -> CommandError {
    let problem = format!("{} answers something else ({error})", args.admin);
    CommandError::Mesh(Problem::new(problem, "check --admin, and that the mesh has this program's version"))
}
