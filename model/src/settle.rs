//! When a token is ready: every live gateway of the destination accepts it.

use std::collections::BTreeSet;

use crate::api::DomainRouteTokenStatus;

/// The status in which `gateway` lists itself among those that accept the newest token; `None` if it is listed, or if
/// there is no such token. The token of `revision` is meant, and no other.
#[must_use]
pub fn with_listed(
    status: &DomainRouteTokenStatus,
    revision: i64,
    gateway: &str,
) -> Option<DomainRouteTokenStatus> {
    let newest = &status.revision_token;
    if newest.token.is_empty() || newest.revision != revision {
        return None;
    }
    if newest.effective_instances.iter().any(|listed| listed == gateway) {
        return None;
    }
    let mut status = status.clone();
    status.revision_token.effective_instances.push(gateway.to_owned());
    status.revision_token.effective_instances.sort_unstable();
    Some(status)
}

/// The status in which the newest token is ready, because all of the `live` gateways have listed themselves; `None`
/// if some have not, or if it is ready. Gateways that are not alive any more are not waited for.
///
/// The token before stays beside it, for requests that are under way with it.
#[must_use]
pub fn settle_tokens(
    status: &DomainRouteTokenStatus,
    live: &BTreeSet<String>,
) -> Option<DomainRouteTokenStatus> {
    let newest = &status.revision_token;
    if newest.token.is_empty() || newest.is_ready || newest.effective_instances.is_empty() {
        return None;
    }
    if !live.iter().all(|gateway| newest.effective_instances.contains(gateway)) {
        return None;
    }
    let mut status = status.clone();
    status.revision_token.is_ready = true;
    status.tokens.retain(|token| token.revision != status.revision_token.revision);
    status.tokens.push(status.revision_token.clone());
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DomainRouteToken;

    fn token(revision: i64, gateways: &[&str]) -> DomainRouteToken {
        DomainRouteToken {
            token: format!("sealed-{revision}"),
            revision,
            effective_instances: gateways.iter().map(|&name| name.to_owned()).collect(),
            ..DomainRouteToken::default()
        }
    }

    fn status(newest: DomainRouteToken) -> DomainRouteTokenStatus {
        let before = DomainRouteToken { is_ready: true, ..token(1, &["a", "b"]) };
        DomainRouteTokenStatus {
            revision_token: newest,
            tokens: vec![before],
            ..DomainRouteTokenStatus::default()
        }
    }

    fn live(gateways: &[&str]) -> BTreeSet<String> {
        gateways.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_token_is_ready_once_the_last_live_gateway_lists_itself() {
        let offered = status(token(2, &[]));
        assert_eq!(settle_tokens(&offered, &live(&[])), None, "nobody has it");
        let one = with_listed(&offered, 2, "b").expect("it was not listed");
        assert_eq!(with_listed(&one, 2, "b"), None);
        assert_eq!(settle_tokens(&one, &live(&["a", "b"])), None);
        let both = with_listed(&one, 2, "a").expect("it was not listed");
        assert_eq!(both.revision_token.effective_instances, ["a", "b"]);
        let ready = settle_tokens(&both, &live(&["a", "b"])).expect("all have it");
        assert!(ready.revision_token.is_ready);
        assert_eq!(ready.tokens.iter().map(|token| token.revision).collect::<Vec<_>>(), [1, 2]);
        assert!(ready.tokens[1].is_ready);
        assert_eq!(settle_tokens(&ready, &live(&["a", "b"])), None, "it is ready");
    }

    #[test]
    fn a_gateway_that_is_gone_is_not_waited_for() {
        let one = status(token(2, &["a"]));
        assert_eq!(settle_tokens(&one, &live(&["a", "b"])), None);
        assert!(settle_tokens(&one, &live(&["a"])).is_some());
    }

    #[test]
    fn a_gateway_lists_itself_for_the_token_that_it_has_and_no_other() {
        assert_eq!(with_listed(&status(token(2, &[])), 1, "a"), None);
        assert_eq!(with_listed(&DomainRouteTokenStatus::default(), 0, "a"), None, "there is no token");
    }
}
