//! Errors of the API server as a line for people: what is lacking and, where that is known, how to mend it.

pub use kube::Error as KubeError;
use kube::runtime::watcher;
use std::{error::Error as _, fmt::Write as _};

/// The error in a line. One that the API server gives is its own message: of a refusal it names verb, resource and account.
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!("RBAC: {}", status.message),
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        other => {
            // What went wrong on the way is at the end of the chain.
            let mut text = other.to_string();
            let mut source = other.source();
            while let Some(error) = source {
                let detail = error.to_string();
                if !text.contains(&detail) {
                    let _ = write!(text, ": {detail}");
                }
                source = error.source();
            }
            text
        }
    }
}

/// Whether the API server does not have the kind that was to be watched.
pub(crate) fn is_absent(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    matches!(error, InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) if status.code == 404)
}

/// A watch's error in a line. `crd`: the file that has the kind's definition, if it is none of Kubernetes' own.
pub(crate) fn describe_watch(error: &watcher::Error, plural: &str, crd: Option<&str>) -> String {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        absent if is_absent(absent) => match crd {
            Some(file) => format!("the API server has no {plural}: kubectl apply -f {file}"),
            None => format!("the API server has no {plural}"),
        },
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => describe(error),
        WatchError(status) => format!("the watch was ended: {}", status.message),
        NoResourceVersion => "the API server gives no resourceVersion".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn what_is_lacking_is_named_with_its_mend() {
        let missing = watcher::Error::InitialListFailed(api(404, "404 page not found"));
        assert_eq!(
            describe_watch(&missing, "serviceexports", Some("deploy/crds/serviceexports.yaml")),
            "the API server has no serviceexports: kubectl apply -f deploy/crds/serviceexports.yaml"
        );
        let refused = "nodes is forbidden: User \"u\" cannot list resource \"nodes\"";
        assert_eq!(describe(&api(403, refused)), format!("RBAC: {refused}"));
        assert_eq!(describe(&api(500, "")), "the API server answered 500");
    }
}
