//! What the table of names tells of a question.

use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::handler::Rotation;
use crate::reply::Reply;
use crate::table::{Found, Table};

/// What the table tells of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All there is to say.
    Whole(Reply),
    /// The rest is for others to say.
    Elsewhere {
        /// The records that lead from the name that was asked for to `name`; none, if it is that name itself.
        aliases: Vec<Record>,
        /// The name that others know.
        name: Name,
    },
}

/// An alias may lead to another one; so many times it is followed.
const MAX_ALIASES: usize = 8;

impl Answer {
    /// Follows aliases as far as the table knows them.
    pub(crate) fn of(table: &Table, query: &LowerQuery, rotation: &Rotation) -> Self {
        let record_type = query.query_type();
        // The name as the client wrote it: some check its case to detect forgeries.
        let mut name = query.original().name().clone();
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        while reply.answers.len() < MAX_ALIASES {
            let found = find(table, &name);
            if let (Found::Alias(target), false) = (found, is_for_alias(record_type)) {
                reply.answers.push(table.zone.record(name, RData::CNAME(CNAME(target.clone()))));
                name = target.clone();
                continue;
            }
            if found == Found::NotOurs {
                return Self::Elsewhere { aliases: reply.answers, name };
            }
            let mut data = of_type(table.data(found), record_type);
            if data.is_empty() {
                // The code is that of the last name (RFC 6604, 3).
                reply.code =
                    if found == Found::Missing { ResponseCode::NXDomain } else { ResponseCode::NoError };
                reply.authority = vec![table.soa()];
                return Self::Whole(reply);
            }
            reply.additional = addresses_of_targets(table, &data);
            let first = rotation.next(query.name(), record_type) % data.len();
            data.rotate_left(first);
            let record = |data| table.zone.record(name.clone(), data);
            reply.answers.extend(data.into_iter().map(record));
            return Self::Whole(reply);
        }
        Self::Whole(Reply::error(ResponseCode::ServFail))
    }
}

fn find<'t>(table: &'t Table, name: &Name) -> Found<'t> {
    let lower = name.to_lowercase();
    table.find(&lower.iter().collect::<Vec<_>>())
}

/// Whether a question of this type is answered with the alias itself.
fn is_for_alias(record_type: RecordType) -> bool {
    matches!(record_type, RecordType::CNAME | RecordType::ANY)
}

/// What is asked for. For `ANY` that is all of one type, which keeps answers to strangers small (RFC 8482, 4.1).
fn of_type(mut data: Vec<RData>, record_type: RecordType) -> Vec<RData> {
    let wanted = match (record_type, data.first()) {
        (RecordType::ANY, Some(first)) => first.record_type(),
        _ => record_type,
    };
    data.retain(|data| data.record_type() == wanted);
    data
}

/// What clients ask for next, where it is known (RFC 2782; RFC 1035, 3.3.11).
fn addresses_of_targets(table: &Table, data: &[RData]) -> Vec<Record> {
    let mut targets: Vec<&Name> = data
        .iter()
        .filter_map(|data| match data {
            RData::SRV(srv) => Some(&srv.target),
            RData::NS(name) => Some(&name.0),
            _ => None,
        })
        .collect();
    // Ports of one address follow each other.
    targets.dedup();
    let records = targets.into_iter().flat_map(|target| {
        let data = table.data(find(table, target)).into_iter().filter(|data| data.ip_addr().is_some());
        data.map(|data| table.zone.record(target.clone(), data))
    });
    records.collect()
}
