//! `networkmesh status`.

use std::io::Write;

use super::ask::{Question, ask, misunderstood};
use super::{AdminArgs, CommandError, Verdict};
use crate::output::{Format, Table};
use crate::source::SourceKind;
use crate::status::{DnsStatus, RouteStatus, Status, UpstreamStatus};

const EXAMPLE: &str = "\
Example:
  networkmesh status --admin http://127.0.0.1:9091 -o json | jq .problems";

/// Show routes, tokens, Envoys and everything that is not well
///
/// Exits with 1 if anything is not well, and says what, with the remedy.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let answer = ask(&args.admin, &Question::new("/status"))?;
    let status: Status =
        serde_json::from_slice(&answer).map_err(|error| misunderstood(&args.admin, &error))?;
    match args.output.data() {
        Some(format) => format.write(out, &status)?,
        None => print(&status, out)?,
    }
    Ok(if status.problems.is_empty() { Verdict::Fine } else { Verdict::NotWell })
}

fn print(status: &Status, out: &mut dyn Write) -> Result<(), CommandError> {
    let Status { domain, instance, version, key_fingerprint, source, .. } = status;
    writeln!(out, "Domain {domain}, gateway {instance}, networkmesh {version}")?;
    writeln!(out, "Key {key_fingerprint}")?;
    match source.files {
        Some(files) => writeln!(out, "Source {}: {} objects in {files} files", source.kind, source.objects)?,
        None => writeln!(out, "Source {} {}: {} objects", source.kind, source.location, source.objects)?,
    }
    if status.source.kind == SourceKind::Kubernetes {
        writeln!(out, "Live gateways: {}", status.gateways.join(", "))?;
    }
    if let Some(controller) = &status.controller {
        let leader = controller.leader.as_deref().unwrap_or("nobody yet");
        writeln!(out, "Controller: {leader}{}", if controller.is_leader { " (this mesh)" } else { "" })?;
    }
    if let Some(certificate) = &status.certificate {
        writeln!(out, "External certificate until {}", certificate.not_after)?;
    }
    if let Some(certificate) = &status.client_certificate {
        writeln!(out, "Client certificate until {}", certificate.not_after)?;
    }
    writeln!(out, "DNS on {}: {}", status.dns.address, dns_summary(&status.dns))?;

    let mut routes = Table::new(["ROUTE", "DIRECTION", "AUTHENTICATION", "TOKEN", "EXPIRES", "STATE"]);
    for route in &status.routes {
        let revisions: Vec<String> = route.token_revisions.iter().map(ToString::to_string).collect();
        routes.row([
            route.name.clone(),
            route.direction.clone(),
            or_dash(route.authentication.clone()),
            or_dash(revisions.join(",")),
            or_dash(route.token_expires.map(|time| time.to_string()).unwrap_or_default()),
            state(route),
        ]);
    }
    write!(out, "\n{routes}")?;

    let mut detours = Table::new(["DETOUR", "DIRECTION", "PATH"]);
    let mut takes_detours = false;
    for route in status.routes.iter().filter(|route| !route.path.is_empty()) {
        takes_detours = true;
        detours.row([route.name.clone(), route.direction.clone(), route.path.join(" → ")]);
    }
    if takes_detours {
        write!(out, "\n{detours}")?;
    }

    let mut services = Table::new(["SERVICE", "SCOPE", "ENDPOINTS"]);
    for service in &status.services {
        let endpoints = or_dash(service.endpoints.join(","));
        services.row([service.host.clone(), service.scope.clone(), endpoints]);
    }
    write!(out, "\n{services}")?;

    let mut envoys = Table::new(["ENVOY", "SINCE", "PROTOCOL", "SENT", "ACKED", "NACKED"]);
    for envoy in &status.envoys {
        let sum = |count: fn(&crate::status::ResourceCounts) -> usize| {
            envoy.resources.values().map(count).sum::<usize>().to_string()
        };
        envoys.row([
            envoy.node.clone(),
            envoy.connected_since.to_string(),
            envoy.protocol.clone(),
            sum(|counts| counts.sent),
            sum(|counts| counts.acked),
            sum(|counts| counts.nacked),
        ]);
    }
    write!(out, "\n{envoys}")?;

    if !status.dns.upstreams.is_empty() {
        write!(out, "\n{}", upstreams(&status.dns))?;
    }

    if status.problems.is_empty() {
        writeln!(out, "\nAll is well.")?;
    } else {
        writeln!(out, "\nNot well:")?;
        for problem in &status.problems {
            writeln!(out, "  {problem}")?;
        }
    }
    Ok(())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The reason of the first condition that does not hold, else `ok`.
fn state(route: &RouteStatus) -> String {
    route.failed().next().map_or_else(|| "ok".to_owned(), |condition| condition.reason.clone())
}

fn dns_summary(dns: &DnsStatus) -> String {
    let DnsStatus { names, responses, limited, cache, .. } = dns;
    let named = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let listed = |items: Vec<Option<String>>| items.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let answers = listed(responses.iter().map(|(rcode, count)| named(*count, rcode)).collect());
    let cache = [(cache.hits, "hits"), (cache.misses, "misses"), (cache.stale, "stale")];
    let cache = listed(cache.map(|(count, what)| named(count, what)).to_vec());
    let limited = [(limited.truncated, "truncated"), (limited.dropped, "dropped")];
    let limited = listed(limited.map(|(count, what)| named(count, what)).to_vec());
    let mut summary = format!("{names} names; ");
    summary.push_str(if answers.is_empty() { "no queries yet" } else { &answers });
    for (what, counts) in [("cache", cache), ("strangers limited", limited)] {
        if !counts.is_empty() {
            summary.extend(["; ", what, ": ", &counts]);
        }
    }
    summary
}

fn upstreams(dns: &DnsStatus) -> Table<5> {
    let mut table = Table::new(["UPSTREAM", "STATE", "QUERIES", "FAILED", "MEAN"]);
    for upstream in &dns.upstreams {
        let mean = upstream.mean_milliseconds.map(|mean| format!("{mean:.1} ms"));
        table.row([
            upstream.address.clone(),
            upstream_state(upstream),
            upstream.queries.to_string(),
            upstream.failures.to_string(),
            or_dash(mean.unwrap_or_default()),
        ]);
    }
    table
}

/// `-` until it has been asked.
fn upstream_state(upstream: &UpstreamStatus) -> String {
    match (upstream.queries, upstream.answers, upstream.last_success) {
        (0, ..) => "-".to_owned(),
        (_, true, _) => "ok".to_owned(),
        (_, false, Some(last)) => format!("silent since {last:.0}"),
        (_, false, None) => "silent".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::well;

    #[test]
    fn the_dns_is_summed_up_in_a_line_and_upstreams_in_a_table() {
        let mut dns = well().dns;
        assert_eq!(dns_summary(&dns), "3 names; 4 NXDOMAIN");
        assert_eq!(
            upstreams(&dns).to_string(),
            "UPSTREAM        STATE   QUERIES   FAILED   MEAN\n192.0.2.53:53   ok      2         1        1.5 ms\n"
        );
        dns.responses.clear();
        (dns.cache.hits, dns.cache.stale, dns.limited.dropped) = (2, 1, 7);
        assert_eq!(
            dns_summary(&dns),
            "3 names; no queries yet; cache: 2 hits, 1 stale; strangers limited: 7 dropped"
        );
    }

    #[test]
    fn an_upstream_is_silent_since_its_last_answer() {
        let mut upstream = well().dns.upstreams.remove(0);
        assert_eq!(upstream_state(&upstream), "ok");
        upstream.answers = false;
        assert_eq!(
            upstream_state(&upstream),
            format!("silent since {:.0}", upstream.last_success.expect("it answered"))
        );
        upstream.last_success = None;
        assert_eq!(upstream_state(&upstream), "silent");
        (upstream.answers, upstream.queries) = (true, 0);
        assert_eq!(upstream_state(&upstream), "-", "nobody knows yet");
    }
}
