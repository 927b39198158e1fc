//! `Kuscia-Error-Message`: the gateways that an answer passed, this domain's first, the one that failed last.

/// A gateway that an erroneous answer passed, or where it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop<'a> {
    /// Its domain.
    pub(super) domain: &'a str,
    /// Domain, instance and listener.
    pub(super) gateway: &'a str,
    /// Envoy's response code detail; empty where the answer came from elsewhere.
    pub(super) details: &'a str,
}

impl Hop<'_> {
    /// The gateway only passed on what something behind it answered, which is no gateway.
    pub(super) fn is_passed_on(&self) -> bool {
        self.details == "via_upstream"
    }
}

/// The gateways of a message; none: it is no gateway's. The message may be cut off.
pub(super) fn hops(message: &str) -> Vec<Hop<'_>> {
    message.split(" => ").map_while(hop).collect()
}

fn hop(text: &str) -> Option<Hop<'_>> {
    let inside = text.trim_start().strip_prefix('<')?;
    let (gateway, rest) = inside.split_once([' ', '>']).unwrap_or((inside, ""));
    let (domain, _) = gateway.split_once('/')?;
    let details = rest.strip_prefix('$').and_then(|rest| rest.split('$').next()).unwrap_or_default();
    Some(Hop { domain, gateway, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_told_in_their_order_with_what_they_say() {
        let message = "<alice/gw-1/internal> => <bob/gw.2/external $cluster_not_found$ unknown service>";
        let expected = [
            Hop { domain: "alice", gateway: "alice/gw-1/internal", details: "" },
            Hop { domain: "bob", gateway: "bob/gw.2/external", details: "cluster_not_found" },
        ];
        assert_eq!(hops(message), expected);
    }

    #[test]
    fn a_message_that_is_cut_off_is_read_as_far_as_it_goes() {
        let details = |message| hops(message).last().map(|hop| (hop.domain, hop.details));
        assert_eq!(
            details("<alice/a/internal $upstream_reset{remote"),
            Some(("alice", "upstream_reset{remote"))
        );
        assert_eq!(details("<alice/a/internal> => <bo"), Some(("alice", "")));
        assert_eq!(details("<alice/a/internal> =>"), Some(("alice", "")));
    }

    #[test]
    fn what_no_gateway_says_has_no_hops() {
        for message in ["", "a page", "<html><body>", "=> <bob/a/b>", "alice/a/internal"] {
            assert_eq!(hops(message), [], "{message}");
        }
    }
}
