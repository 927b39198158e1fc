//! What an error of the API server means, and the remedy.

use std::error::Error as StdError;
use std::iter;

use kube::client::AuthError;
use kube::runtime::watcher;
use model::quoted;

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

/// An error in one line, with nothing in it that may be secret.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", quoted(&status.message), status.code),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "its answer cannot be understood".to_owned(),
        _ => in_words(error),
    }
}

/// An error of a client of an API server and its causes, in one line. What a command for credentials is called with or
/// prints is left out: that may be secret.
#[must_use]
pub fn in_words(error: &(dyn StdError + 'static)) -> String {
    match causes(error).find_map(|cause| cause.downcast_ref()) {
        Some(AuthError::AuthExecRun { out, .. }) => {
            format!("the command for credentials fails ({}); run it to see why", out.status)
        }
        Some(AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_)) => {
            "what the command for credentials prints is no ExecCredential".to_owned()
        }
        // Most errors repeat what their cause says.
        _ => causes(error).map(ToString::to_string).fold(String::new(), |line, words| match line.as_str() {
            "" => words,
            _ if line.contains(&words) => line,
            _ => format!("{line}: {words}"),
        }),
    }
}

/// An error, its cause, the cause of that, and so on.
pub fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
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
