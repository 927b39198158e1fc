//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

/// Queries answered, by response code.
///
/// Packets too broken to be read as a query do not get this far.
#[derive(Debug, Default)]
pub struct Metrics {
    queries: [AtomicU64; NAMES.len()],
}

/// The names of the response codes in IANA's registry.
const NAMES: [&str; 8] =
    ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", "OTHER"];

impl Metrics {
    /// How many queries got each response code since the start. `OTHER` stands for codes that an upstream made up.
    #[must_use]
    pub fn snapshot(&self) -> [(&'static str, u64); NAMES.len()] {
        std::array::from_fn(|index| (NAMES[index], self.queries[index].load(Ordering::Relaxed)))
    }

    pub(crate) fn count(&self, code: ResponseCode) {
        let index = match code {
            ResponseCode::NoError => 0,
            ResponseCode::FormErr => 1,
            ResponseCode::ServFail => 2,
            ResponseCode::NXDomain => 3,
            ResponseCode::NotImp => 4,
            ResponseCode::Refused => 5,
            ResponseCode::BADVERS => 6,
            _ => 7,
        };
        self.queries[index].fetch_add(1, Ordering::Relaxed);
    }
}
