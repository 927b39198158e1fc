//! Questions to a running mesh, over its admin interface.

use std::ops::ControlFlow;

use ::http::{Request, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Collected, Limited};
use model::{Problem, printable};
use tokio::runtime::{Builder, Runtime};

use super::{AdminArgs, CommandError};
use crate::http::{Cause, Error, Limits, open, send};

/// A dump of a large domain takes some megabytes.
const MAX_ANSWER: usize = 1 << 30;

/// Most bytes of a line of an answer that comes line by line, and of the words of a refusal.
const MAX_LINE: usize = 1 << 16;

/// Most characters of the words of a refusal that are shown.
const MAX_REFUSAL_CHARS: usize = 500;

/// The path of a question with its parameters.
pub(super) struct Question(String);

impl Question {
    /// A path, relative to the admin interface, without parameters.
    pub(super) fn new(path: &str) -> Self {
        Self(format!("{path}?"))
    }

    /// The same with a parameter more, whose value may be anything.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let escaped = value
            .bytes()
            .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        self.0.extend([name, "="]);
        self.0.extend(escaped);
        self.0.push('&');
        self
    }
}

/// The body of the answer.
pub(super) fn ask(args: &AdminArgs, question: &Question) -> Result<Bytes, CommandError> {
    let limits = Limits { body: MAX_ANSWER, ..Limits::default() };
    let response = runtime()?.block_on(send(&args.admin, request(question)?, limits)).map_err(no_answer)?;
    if response.status() == StatusCode::OK {
        return Ok(response.into_body());
    }
    Err(refusal(args, response.status(), response.body()))
}

/// Passes every line of the answer to `each` as it comes, until that breaks or the answer ends.
pub(super) fn follow(
    args: &AdminArgs,
    question: &Question,
    mut each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, CommandError>,
) -> Result<(), CommandError> {
    runtime()?.block_on(async {
        let response = open(&args.admin, request(question)?, Limits::default()).await.map_err(no_answer)?;
        let (status, mut body) = (response.status(), response.into_body());
        if status != StatusCode::OK {
            let words = Limited::new(body, MAX_LINE).collect().await;
            return Err(refusal(args, status, &words.map(Collected::to_bytes).unwrap_or_default()));
        }
        let mut text = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let error = Error { target: args.admin.clone(), cause: error.into() };
                no_answer(error)
            })?;
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line = text.split_to(end + 1);
                if each(&line[..end])?.is_break() {
                    return Ok(());
                }
            }
            if text.len() > MAX_LINE {
                return Err(no_answer(Error {
                    target: args.admin.clone(),
                    cause: Cause::TooLarge(MAX_LINE),
                }));
            }
        }
        Ok(())
    })
}

/// An answer that is not what this program expects comes from another one, or another version.
pub(super) fn misunderstood(args: &AdminArgs, error: &serde_json::Error) -> CommandError {
    let problem = format!("{} answers something else ({error})", args.admin);
    CommandError::Mesh(Problem::new(problem, "check --admin, and that the mesh has this program's version"))
}

fn runtime() -> Result<Runtime, CommandError> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn request(Question(path): &Question) -> Result<Request<Bytes>, CommandError> {
    Request::get(path.trim_end_matches(['?', '&']))
        .body(Bytes::new())
        .map_err(|error| CommandError::Mesh(Problem::new(error.to_string(), "report this")))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
fn no_answer(error: Error) -> CommandError {
    let remedy = match error.cause {
        Cause::Refused => "start the mesh with `networkmesh run`, or pass its listen.admin as --admin",
        _ => "pass the mesh's listen.admin as --admin",
    };
    CommandError::Mesh(Problem::new(format!("the mesh does not answer: {error}"), remedy))
}

fn refusal(args: &AdminArgs, status: StatusCode, body: &[u8]) -> CommandError {
    let message = String::from_utf8_lossy(body);
    CommandError::Mesh(Problem::new(
        format!("{} answers {status}", args.admin),
        printable(&message, MAX_REFUSAL_CHARS),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_parameters_may_hold_anything() {
        let question = Question::new("/explain").with("name", "a&b=c d/é\n").with("x", "_dns.svc");
        let request = request(&question).expect("is valid");
        assert_eq!(request.uri(), "/explain?name=a%26b%3Dc%20d%2F%C3%A9%0A&x=_dns.svc");
        assert_eq!(super::request(&Question::new("/status")).expect("is valid").uri(), "/status");
    }
}
