//! What an exchange with a destination showed, as the route's status tells it.
//!
//! Three conditions, each of which takes the one before it: `Reachable`, `Authenticated`, `DataPath`.

use jiff::Timestamp;
use model::api::{Condition, ConditionStatus, DomainRouteStatus, Time};
use model::{DomainId, OutboundAuth, StatusChange};
use proto::handshake::TokenState;

use super::call_error::CallError;
use super::findings::{DataPath, Finding, Layer, headers_stripped};
use super::ledger::LedgerError;
use super::path::Path;

const DATA_PATH: &str = "DataPath";

/// Why a route has no new token.
#[derive(Debug, thiserror::Error)]
pub(super) enum NegotiationError {
    /// None came.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It came, and is lost.
    #[error("the token could not be kept: {0}")]
    Ledger(#[from] LedgerError),
    /// It came after another one.
    #[error("another gateway of this domain has stored another token meanwhile")]
    Superseded,
}

/// What an exchange with a destination showed.
pub(super) struct Contact {
    /// What it showed of `Reachable` and `Authenticated`, if it was about them.
    link: Option<(Shown, Shown)>,
    /// What it showed of `DataPath`; `None`: nothing.
    data_path: Option<Shown>,
    /// It brought a token that is not confirmed yet.
    is_negotiated: bool,
}

/// What there is to say in a condition.
struct Shown {
    status: ConditionStatus,
    reason: &'static str,
    /// What is wrong, or else what is worth to know, for people.
    message: String,
}

impl Contact {
    /// The destination gave a new token.
    pub(super) fn negotiated() -> Self {
        Self { is_negotiated: true, ..Self::answered(Shown::good("TokenNegotiated")) }
    }

    /// No new token, or no answer to a probe. What was found out about it takes the place of the error's own words.
    pub(super) fn failed(error: &NegotiationError, finding: Option<&Finding>) -> Self {
        let (layer, reason, message) = match (finding, error) {
            (Some(finding), _) => (finding.layer, finding.reason, finding.message.clone()),
            (None, NegotiationError::Call(call)) => {
                let layer = if call.is_unreachable() { Layer::Reach } else { Layer::Trust };
                (layer, call.reason(), error.to_string())
            }
            (None, NegotiationError::Ledger(_)) => (Layer::Trust, "TokenNotStored", error.to_string()),
            (None, NegotiationError::Superseded) => (Layer::Trust, "TokenSuperseded", error.to_string()),
        };
        match layer {
            Layer::Reach => Self {
                link: Some((Shown::bad(reason, message), Shown::unknown())),
                data_path: Some(Shown::unknown()),
                is_negotiated: false,
            },
            Layer::Trust => Self::answered(Shown::bad(reason, message)),
        }
    }

    /// The destination answered a probe of `revision`.
    pub(super) fn probed(state: TokenState, destination: &DomainId, revision: i64) -> Self {
        let failing = "ask its operator for `networkmesh status`";
        Self::answered(match state {
            TokenState::TokenReady => Shown::good("TokenReady"),
            TokenState::NoAuthentication => {
                let message =
                    format!("{destination} has no route from this domain; its operator must add one");
                Shown::bad("RouteMissing", message)
            }
            TokenState::TokenNotFound => {
                let message = format!("{destination} does not know revision {revision}; negotiating anew");
                Shown::bad("TokenUnknown", message)
            }
            TokenState::TokenNotReady => {
                let message = format!(
                    "{destination} has the token of revision {revision}, but its gateways do not accept it yet; if that \
                     stays, {failing}"
                );
                Shown::bad("TokenNotReady", message)
            }
            TokenState::DomainIdInputInvalid => {
                Shown::bad("HeadersStripped", headers_stripped(destination, "Kuscia-Source"))
            }
            TokenState::TokenRevisionInputInvalid => {
                Shown::bad("HeadersStripped", headers_stripped(destination, "Kuscia-Token-Revision"))
            }
            TokenState::InternalError | TokenState::NetworkUnreachable => {
                let message =
                    format!("{destination} cannot tell of revision {revision} ({state:?}); {failing}");
                Shown::bad("FailedAtPeer", message)
            }
        })
    }

    /// What came of a request to the datapath host of the destination, to which handshakes get through.
    pub(super) fn data_path(shown: &DataPath) -> Self {
        let shown = match shown {
            DataPath::Open { reason, path } => Shown::open(reason, path.as_ref()),
            DataPath::Closed(Finding { reason, message, .. }) => Shown::bad(reason, message.clone()),
        };
        Self { link: None, data_path: Some(shown), is_negotiated: false }
    }

    /// What came of a request to the datapath host of a destination with which there are no handshakes.
    pub(super) fn without_token(shown: &DataPath, auth: &OutboundAuth) -> Self {
        let (link, data_path) = match shown {
            DataPath::Open { reason, path } => {
                let authenticated = match auth {
                    OutboundAuth::Mtls => "CertificateAccepted",
                    OutboundAuth::None | OutboundAuth::Token { .. } => "NotNeeded",
                };
                let link = (Shown::good("Answered"), Shown::good(authenticated));
                (link, Shown::open(reason, path.as_ref()))
            }
            DataPath::Closed(Finding { layer: Layer::Reach, reason, message }) => {
                ((Shown::bad(reason, message.clone()), Shown::unknown()), Shown::unknown())
            }
            DataPath::Closed(Finding { layer: Layer::Trust, reason, message }) => {
                let link = (Shown::good("Answered"), Shown::bad(reason, message.clone()));
                (link, Shown::not_let_in())
            }
        };
        Self { link: Some(link), data_path: Some(data_path), is_negotiated: false }
    }

    /// What is wrong, for people.
    pub(super) fn problem(&self) -> Option<&str> {
        let link = self.link.iter().flat_map(|(reachable, authenticated)| [reachable, authenticated]);
        let mut all = link.chain(&self.data_path);
        all.find(|shown| shown.status == ConditionStatus::False).map(|shown| shown.message.as_str())
    }

    /// What `status` does not say yet.
    pub(super) fn changes(&self, status: &DomainRouteStatus) -> Vec<StatusChange> {
        let mut changes = Vec::new();
        if let Some((reachable, authenticated)) = &self.link {
            changes.push(reachable.condition("Reachable"));
            changes.push(authenticated.condition("Authenticated"));
            changes.push(StatusChange::Destination {
                authorized: authenticated.status == ConditionStatus::True,
                unreachable: reachable.status == ConditionStatus::False,
            });
        }
        let is_told = || status.conditions.iter().any(|known| known.type_ == DATA_PATH);
        let data_path =
            self.data_path.iter().filter(|shown| shown.status != ConditionStatus::Unknown || is_told());
        changes.extend(data_path.map(|shown| shown.condition(DATA_PATH)));
        let is_confirmed = self.is_negotiated && status.is_destination_authorized;
        let is_news = |change: &StatusChange| match change {
            // It was confirmed, and soon will be again.
            StatusChange::Condition(known) if is_confirmed && known.type_ == "Authenticated" => false,
            change => change.apply(&mut status.clone()),
        };
        changes.into_iter().filter(is_news).collect()
    }

    /// The destination was reached.
    fn answered(authenticated: Shown) -> Self {
        Self { link: Some((Shown::good("Answered"), authenticated)), data_path: None, is_negotiated: false }
    }
}

impl Shown {
    fn good(reason: &'static str) -> Self {
        Self { status: ConditionStatus::True, reason, message: String::new() }
    }

    /// The way that requests take is worth to know where it is a detour.
    fn open(reason: &'static str, path: Option<&Path>) -> Self {
        let detour = path.filter(|path| !path.by_way_of.is_empty());
        Self { message: detour.map(ToString::to_string).unwrap_or_default(), ..Self::good(reason) }
    }

    fn bad(reason: &'static str, message: String) -> Self {
        Self { status: ConditionStatus::False, reason, message }
    }

    /// Nobody can tell while the destination is not reached.
    fn unknown() -> Self {
        let message = "the destination's gateway is not reached: see Reachable".to_owned();
        Self { status: ConditionStatus::Unknown, reason: "NotReached", message }
    }

    /// The gateway is reached, and lets nothing in.
    fn not_let_in() -> Self {
        let message = "the destination does not let this domain in: see Authenticated".to_owned();
        Self { status: ConditionStatus::Unknown, reason: "NotAuthenticated", message }
    }

    fn condition(&self, type_: &str) -> StatusChange {
        StatusChange::Condition(Condition {
            type_: type_.to_owned(),
            status: self.status,
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            gateway: None,
            last_transition_time: Some(Time(Timestamp::now())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> DomainId {
        "bob".parse().expect("a domain ID")
    }

    fn after(contact: &Contact, status: &DomainRouteStatus) -> DomainRouteStatus {
        let mut status = status.clone();
        for change in contact.changes(&status.clone()) {
            assert!(change.apply(&mut status), "{change:?} changes nothing");
        }
        status
    }

    fn shown(status: &DomainRouteStatus) -> Vec<(&str, ConditionStatus, &str)> {
        let conditions = status.conditions.iter();
        conditions.map(|known| (known.type_.as_str(), known.status, known.reason.as_str())).collect()
    }

    fn unreachable() -> Contact {
        let error = CallError::NoAnswer { destination: bob(), cause: "it hangs".to_owned() };
        let message = "it hangs; shake it".to_owned();
        let finding = Finding { layer: Layer::Reach, reason: "AnswerTimeout", message };
        Contact::failed(&error.into(), Some(&finding))
    }

    fn open(header: &str) -> DataPath {
        DataPath::Open { reason: "Answered", path: Path::of_header(header).ok() }
    }

    fn closed(layer: Layer, reason: &'static str) -> DataPath {
        DataPath::Closed(Finding { layer, reason, message: format!("it is {reason}; mend it") })
    }

    #[test]
    fn what_lies_behind_an_unreachable_gateway_is_unknown() {
        let status = after(&unreachable(), &DomainRouteStatus::default());
        let expected = [
            ("Reachable", ConditionStatus::False, "AnswerTimeout"),
            ("Authenticated", ConditionStatus::Unknown, "NotReached"),
        ];
        assert_eq!(shown(&status), expected);
        assert_eq!(status.conditions[0].message, "it hangs; shake it");
        assert!(status.is_destination_unreachable && !status.is_destination_authorized);

        let well = after(
            &Contact::data_path(&open("bob")),
            &after(&Contact::negotiated(), &DomainRouteStatus::default()),
        );
        assert_eq!(shown(&well)[2], ("DataPath", ConditionStatus::True, "Answered"));
        let status = after(&unreachable(), &well);
        assert_eq!(shown(&status)[2], ("DataPath", ConditionStatus::Unknown, "NotReached"));
    }

    #[test]
    fn an_error_that_nobody_looked_into_speaks_for_itself() {
        let error = CallError::NoAnswer { destination: bob(), cause: "it hangs".to_owned() };
        let contact = Contact::failed(&error.into(), None);
        assert!(contact.problem().is_some_and(|problem| problem.contains("it hangs")));
        let status = after(&contact, &DomainRouteStatus::default());
        assert_eq!(shown(&status)[0].1, ConditionStatus::False);

        let contact = Contact::failed(&NegotiationError::Superseded, None);
        let expected = [
            ("Reachable", ConditionStatus::True, "Answered"),
            ("Authenticated", ConditionStatus::False, "TokenSuperseded"),
        ];
        assert_eq!(shown(&after(&contact, &DomainRouteStatus::default())), expected);
    }

    #[test]
    fn each_state_of_a_token_has_its_reason_and_what_to_do() {
        for (state, reason, words) in [
            (TokenState::NoAuthentication, "RouteMissing", "bob has no route from this domain"),
            (TokenState::TokenNotFound, "TokenUnknown", "revision 3"),
            (TokenState::TokenNotReady, "TokenNotReady", "networkmesh status"),
            (TokenState::DomainIdInputInvalid, "HeadersStripped", "header Kuscia-Source,"),
            (TokenState::TokenRevisionInputInvalid, "HeadersStripped", "header Kuscia-Token-Revision,"),
            (TokenState::InternalError, "FailedAtPeer", "InternalError"),
            (TokenState::NetworkUnreachable, "FailedAtPeer", "NetworkUnreachable"),
        ] {
            let contact = Contact::probed(state, &bob(), 3);
            let problem = contact.problem().expect("something is wrong");
            assert!(problem.contains(words) && problem.contains(';'), "{problem}");
            let status = after(&contact, &DomainRouteStatus::default());
            let expected = [
                ("Reachable", ConditionStatus::True, "Answered"),
                ("Authenticated", ConditionStatus::False, reason),
            ];
            assert_eq!(shown(&status), expected);
            assert!(!status.is_destination_unreachable && !status.is_destination_authorized);
        }
    }

    #[test]
    fn the_data_path_is_a_condition_of_its_own() {
        let well = after(&Contact::negotiated(), &DomainRouteStatus::default());
        let closed = Contact::data_path(&closed(Layer::Trust, "TokenRejected"));
        assert!(closed.problem().is_some());
        let status = after(&closed, &well);
        let expected = [
            ("Reachable", ConditionStatus::True, "Answered"),
            ("Authenticated", ConditionStatus::True, "TokenNegotiated"),
            ("DataPath", ConditionStatus::False, "TokenRejected"),
        ];
        assert_eq!(shown(&status), expected);
        assert!(status.is_destination_authorized, "the token itself is fine");
        let as_kuscia = DataPath::Open { reason: "AnsweredAsKuscia", path: None };
        assert_eq!(shown(&after(&Contact::data_path(&as_kuscia), &status))[2].2, "AnsweredAsKuscia");
    }

    #[test]
    fn what_the_status_says_already_is_no_change() {
        let status = after(&Contact::negotiated(), &DomainRouteStatus::default());
        assert!(status.is_destination_authorized);
        assert_eq!(Contact::negotiated().changes(&status), []);
        let ready = Contact::probed(TokenState::TokenReady, &bob(), 1);
        assert_eq!(ready.changes(&status).len(), 1, "only the reason differs");
        let status = after(&Contact::data_path(&open("bob")), &status);
        assert_eq!(Contact::data_path(&open("bob")).changes(&status), []);
    }

    #[test]
    fn without_tokens_requests_alone_tell_of_the_whole_link() {
        let none = OutboundAuth::None;
        let of = |shown: &DataPath, auth: &OutboundAuth| {
            after(&Contact::without_token(shown, auth), &DomainRouteStatus::default())
        };
        for (auth, reason) in [(&none, "NotNeeded"), (&OutboundAuth::Mtls, "CertificateAccepted")] {
            let status = of(&open("bob"), auth);
            let expected = [
                ("Reachable", ConditionStatus::True, "Answered"),
                ("Authenticated", ConditionStatus::True, reason),
                ("DataPath", ConditionStatus::True, "Answered"),
            ];
            assert_eq!(shown(&status), expected);
            assert!(status.is_destination_authorized && !status.is_destination_unreachable);
        }

        let well = of(&open("bob"), &OutboundAuth::Mtls);
        let refused =
            Contact::without_token(&closed(Layer::Trust, "CertificateRefused"), &OutboundAuth::Mtls);
        assert_eq!(refused.problem(), Some("it is CertificateRefused; mend it"));
        let status = after(&refused, &well);
        let expected = [
            ("Reachable", ConditionStatus::True, "Answered"),
            ("Authenticated", ConditionStatus::False, "CertificateRefused"),
            ("DataPath", ConditionStatus::Unknown, "NotAuthenticated"),
        ];
        assert_eq!(shown(&status), expected);
        assert!(!status.is_destination_authorized && !status.is_destination_unreachable);

        let away = Contact::without_token(&closed(Layer::Reach, "ConnectionRefused"), &OutboundAuth::Mtls);
        let status = after(&away, &status);
        assert_eq!(shown(&status)[0], ("Reachable", ConditionStatus::False, "ConnectionRefused"));
        assert_eq!(shown(&status)[1].1, ConditionStatus::Unknown);
        assert!(!status.is_destination_authorized && status.is_destination_unreachable);
    }

    #[test]
    fn the_way_of_requests_stands_in_the_condition_where_it_is_a_detour() {
        let message = |header: &str| {
            let status = after(&Contact::data_path(&open(header)), &DomainRouteStatus::default());
            status.conditions[0].message.clone()
        };
        assert_eq!(message("bob"), "");
        assert_eq!(message("carol, bob"), "answered by bob by way of carol");
        assert_eq!(Contact::data_path(&open("carol, bob")).problem(), None);
    }
}
