//! The domains that a request passes on its way to a destination.

use std::fmt;
use std::str::FromStr;

use model::DomainId;

/// Most domains of a path. Each costs a request two gateways, so that real ones have a few.
const MAX_DOMAINS: usize = 16;

/// Where a request came that was sent the way of applications' requests.
///
/// Its text stands in the condition `DataPath`, so that all gateways of a domain know it: `answered by dave by way of bob,
/// carol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The domains that passed it on, in their order.
    pub(crate) by_way_of: Vec<DomainId>,
    /// The domain that answered.
    pub(crate) answered_by: DomainId,
}

/// The text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPath;

impl Path {
    /// What the header `kuscia-datapath` says: `bob, carol, dave`. The domain that answers names itself, and each one that
    /// passes the answer back puts itself in front.
    ///
    /// # Errors
    /// It names no domains, or too many.
    pub(super) fn of_header(value: &str) -> Result<Self, NoPath> {
        let mut domains = domains(value)?;
        let answered_by = domains.pop().ok_or(NoPath)?;
        Ok(Self { by_way_of: domains, answered_by })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_way_of: Vec<&str> = self.by_way_of.iter().map(DomainId::as_str).collect();
        write!(f, "answered by {} by way of {}", self.answered_by, by_way_of.join(", "))
    }
}

impl FromStr for Path {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let rest = text.strip_prefix("answered by ").ok_or(NoPath)?;
        let (answered_by, by_way_of) = rest.split_once(" by way of ").ok_or(NoPath)?;
        let answered_by = answered_by.parse().map_err(|_| NoPath)?;
        Ok(Self { by_way_of: domains(by_way_of)?, answered_by })
    }
}

fn domains(list: &str) -> Result<Vec<DomainId>, NoPath> {
    let domains: Vec<DomainId> = list
        .split(',')
        .take(MAX_DOMAINS + 1)
        .map(|domain| domain.trim().parse().map_err(|_| NoPath))
        .collect::<Result<_, _>>()?;
    if domains.len() > MAX_DOMAINS { Err(NoPath) } else { Ok(domains) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_the_header_and_from_its_own_text() {
        let path = Path::of_header("bob, carol,dave").expect("a path");
        assert_eq!(path.to_string(), "answered by dave by way of bob, carol");
        assert_eq!(path.to_string().parse(), Ok(path));
        let direct = Path::of_header("bob").expect("a path");
        assert_eq!((direct.by_way_of, direct.answered_by.as_str()), (Vec::new(), "bob"));
    }

    #[test]
    fn what_names_no_domains_or_too_many_is_no_path() {
        for header in
            ["", ",", "bob,", "No Domain", "bob; carol", &"a,".repeat(100_000), &["a"; 17].join(",")]
        {
            assert_eq!(Path::of_header(header), Err(NoPath), "{header:.40}");
        }
        assert!(Path::of_header(&["a"; 16].join(", ")).is_ok());
        for text in
            ["", "dave", "answered by dave", "answered by dave by way of ", "answered by  by way of bob"]
        {
            assert_eq!(text.parse::<Path>(), Err(NoPath), "{text}");
        }
    }
}
