//! EDNS(0) (RFC 6891), and what this server says in its options.

use std::net::IpAddr;

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use crate::client::Client;
use crate::cookies::{CookieOption, Cookies, seconds_since_1970};
use crate::reply::MAX_UDP_PAYLOAD;

/// What the server says in options, to clients that ask.
pub(crate) struct Options {
    pub(crate) cookies: Cookies,
    /// Which of several servers this is (RFC 5001).
    pub(crate) nsid: Option<Box<str>>,
}

/// A COOKIE option that has the length of none (RFC 7873, 5.2.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MalformedCookie;

impl Options {
    /// The OPT record that answers a client's one.
    pub(crate) fn answer(&self, asked: &Edns, client: &Client) -> Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_PAYLOAD);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        if let Ok(Some(option)) = cookie(asked) {
            let reply = self.cookies.reply(&option, client.address, seconds_since_1970());
            edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::Cookie.into(), reply.into()));
        }
        if let Some(nsid) = &self.nsid
            && client.may_recurse
            && asked.option(EdnsCode::NSID).is_some()
        {
            edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::NSID.into(), nsid.as_bytes().into()));
        }
        edns
    }

    /// Whether a query proves by a cookie that its client is at its address.
    pub(crate) fn knows(&self, asked: Option<&Edns>, address: IpAddr) -> bool {
        let option = asked.and_then(|asked| cookie(asked).ok().flatten());
        option.is_some_and(|option| self.cookies.knows(&option, address, seconds_since_1970()))
    }
}

/// The first COOKIE option; others are to be ignored (RFC 7873, 5.2).
///
/// # Errors
/// Where it has the length of none.
pub(crate) fn cookie(asked: &Edns) -> Result<Option<CookieOption<'_>>, MalformedCookie> {
    match asked.option(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, bytes)) => CookieOption::parse(bytes).map(Some).ok_or(MalformedCookie),
        _ => Ok(None),
    }
}
