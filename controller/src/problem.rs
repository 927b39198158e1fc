//! What an error of the API server means, and the remedy.

use std::error::Error as StdError;
use std::iter;

use kube::client::AuthError;
use kube::runtime::watcher;

/// Longest part of an answer that is repeated: one that does not come from an API server may be a whole page.
const MAX_QUOTED_CHARS: usize = 300;

/// The error of a request that was to do `what`, for an operator.
pub(crate) fn describe(what: &str, error: &kube::Error) -> String {
    let remedy = match error {
        kube::Error::Api(status) if status.code == 401 => {
            "give the controller credentials that the API server accepts"
        }
        kube::Error::Api(status) if status.code == 403 => {
            "grant the controller its rights: kubectl apply -f deploy/rbac/controller.yaml"
        }
        kube::Error::Api(status) if status.code == 404 && status.message.contains("namespaces") => {
            "create the namespace, or name another one"
        }
        kube::Error::Api(status) if status.code == 404 => {
            "install the custom resources: networkmesh crds | kubectl apply -f -"
        }
        kube::Error::Api(_) | kube::Error::SerdeError(_) => {
            "see the API server's log; the controller tries again"
        }
        kube::Error::Auth(_) => "mend the credentials in the kubeconfig",
        _ => "check that the API server runs and can be reached; the controller tries again",
    };
    format!("cannot {what}: {}; {remedy}", words(error))
}

/// The error of the watch of `kind`, for an operator. `None` for what is no problem: a watch that has become too old is
/// begun anew.
pub(crate) fn describe_watch(kind: &str, error: &watcher::Error) -> Option<String> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(describe(&format!("watch {kind}s"), error)),
        watcher::Error::WatchError(status) if status.code == 410 => None,
        watcher::Error::WatchError(status) => {
            Some(describe(&format!("watch {kind}s"), &kube::Error::Api(status.clone())))
        }
        watcher::Error::NoResourceVersion => {
            Some(format!("cannot watch {kind}s: the API server does not say their version"))
        }
    }
}

/// An error in one line, with nothing in it that may be secret: neither what a command for credentials is called with
/// or prints, nor an answer that is not understood.
pub(crate) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", quoted(&status.message), status.code);
    }
    match causes(error).find_map(|cause| cause.downcast_ref()) {
        Some(AuthError::AuthExecRun { out, .. }) => {
            return format!("the command for credentials fails ({}); run it to see why", out.status);
        }
        Some(AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_)) => {
            return "what the command for credentials prints is no ExecCredential".to_owned();
        }
        _ => {}
    }
    if matches!(error, kube::Error::SerdeError(_) | kube::Error::FromUtf8(_)) {
        return "its answer cannot be understood".to_owned();
    }
    // Most errors repeat what their cause says.
    causes(error).map(ToString::to_string).fold(String::new(), |line, words| match line.as_str() {
        "" => words,
        _ if line.contains(&words) => line,
        _ => format!("{line}: {words}"),
    })
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
}

/// Words of the server, short and in one line.
fn quoted(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "Reason").with_code(code).boxed())
    }

    #[test]
    fn what_an_operator_can_mend_is_told_with_the_remedy() {
        let forbidden = describe("watch Domains", &api(403, "domains is forbidden"));
        assert!(forbidden.starts_with("cannot watch Domains: domains is forbidden (403); "), "{forbidden}");
        assert!(forbidden.ends_with("kubectl apply -f deploy/rbac/controller.yaml"), "{forbidden}");
        let missing = describe("watch Domains", &api(404, "404 page not found"));
        assert!(missing.ends_with("networkmesh crds | kubectl apply -f -"), "{missing}");
        let nowhere = describe("take the lease", &api(404, "namespaces \"x\" not found"));
        assert!(nowhere.ends_with("create the namespace, or name another one"), "{nowhere}");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let out = std::process::Command::new("sh").args(["-c", "echo secret; exit 3"]).output().unwrap();
        let cmd = "get-token --password=secret".to_owned();
        let run = AuthError::AuthExecRun { cmd, out: Box::new(out) };
        let unread = serde_json::from_str::<u16>("\"secret\"").unwrap_err();
        for error in [kube::Error::Service(run.into()), kube::Error::SerdeError(unread)] {
            assert!(error.to_string().contains("secret"), "{error}");
            let text = describe("watch Domains", &error);
            assert!(!text.contains("secret"), "{text}");
        }
        let page = describe("watch Domains", &api(502, &"<p>\n".repeat(10_000)));
        assert!(page.len() < 600 && !page.contains('\n'), "{page}");
    }

    #[test]
    fn a_watch_that_has_become_too_old_is_no_problem() {
        let expired =
            watcher::Error::WatchError(Status::failure("too old", "Expired").with_code(410).boxed());
        assert_eq!(describe_watch("Domain", &expired), None);
    }
}
