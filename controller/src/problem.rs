//! What an error of the API server means, and the remedy.

use kube::runtime::watcher;

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

fn words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !words.contains(&text) {
                words = format!("{words}: {text}");
            }
            cause = error.source();
        }
        return words;
    };
    format!("{} ({})", status.message, status.code)
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
    fn a_watch_that_has_become_too_old_is_no_problem() {
        let expired =
            watcher::Error::WatchError(Status::failure("too old", "Expired").with_code(410).boxed());
        assert_eq!(describe_watch("Domain", &expired), None);
    }
}
