//! The names that everybody answers for, in the notation of each.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::Failure;

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// The domain whose services they are.
pub(crate) const DOMAIN: &str = "alice";

/// Files that [`write`] writes.
pub(crate) const QUERIES: &str = "queries";
pub(crate) const HOSTS: &str = "hosts";
pub(crate) const ZONE: &str = "zone";
pub(crate) const UNBOUND: &str = "local-data";

/// Name and address of the service of this number.
pub(crate) fn service(number: u32) -> (String, Ipv4Addr) {
    (format!("service-{number}"), Ipv4Addr::from(0x0a00_0001 + number))
}

/// Writes queries for all names, in an order in which neighbours are far apart, and the names themselves for those who
/// read files.
pub(crate) fn write(folder: &Path, count: u32) -> Result<(), Failure> {
    let (mut queries, mut hosts) = (String::new(), String::new());
    let mut zone = format!(
        "$ORIGIN svc.\n$TTL {TTL}\n@ SOA kuscia-dns.{DOMAIN}.svc. hostmaster.svc. 1 3600 600 86400 {TTL}\n\
         @ NS kuscia-dns.{DOMAIN}.svc.\nkuscia-dns.{DOMAIN} A 127.0.0.1\n"
    );
    let mut unbound = String::from("local-zone: \"svc.\" static\n");
    for number in 0..count {
        let (name, address) = service(number);
        let host = format!("{name}.{DOMAIN}.svc");
        writeln!(hosts, "{address} {host}")?;
        writeln!(zone, "{name}.{DOMAIN} A {address}")?;
        writeln!(unbound, "local-data: \"{host}. {TTL} IN A {address}\"")?;
        let (asked, _) = service((u64::from(number) * 2_654_435_761 % u64::from(count)) as u32);
        writeln!(queries, "{asked}.{DOMAIN}.svc A")?;
    }
    for (file, text) in [(QUERIES, queries), (HOSTS, hosts), (ZONE, zone), (UNBOUND, unbound)] {
        std::fs::write(folder.join(file), text)?;
    }
    Ok(())
}
