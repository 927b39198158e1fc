//! Records as text.

use std::fmt::Write as _;

use hickory_proto::rr::{RData, Record};

/// The records as a master file (RFC 1035, 5), each on a line of its own. Of a type that is not among those of
/// [`Names::records`](crate::Names::records) there is a comment.
///
/// A server that loads it answers as this one does, but for
/// - names without a record, such as services without an address, which do not exist there;
/// - names deeper than those of services of other domains: a wildcard matches them too (RFC 4592, 2.2.2);
/// - the short forms of names and the reverse ones, which are not of this zone.
#[must_use]
pub fn render_master_file(records: impl IntoIterator<Item = Record>) -> String {
    let mut text = String::new();
    for record in records {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {} {} {} {}",
            record.name.to_ascii(),
            record.ttl,
            record.dns_class,
            record.record_type(),
            data_text(&record.data)
        );
    }
    text
}

/// Names in ASCII, where the library would write those of other scripts in them.
fn data_text(data: &RData) -> String {
    match data {
        RData::CNAME(name) => name.to_ascii(),
        RData::NS(name) => name.to_ascii(),
        RData::PTR(name) => name.to_ascii(),
        RData::SRV(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target.to_ascii()),
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            soa.mname.to_ascii(),
            soa.rname.to_ascii(),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        // Upstreams may say anything, also to terminals.
        other => other.to_string().replace(char::is_control, "?"),
    }
}
