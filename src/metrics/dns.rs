//! What the DNS server counts.

use std::fmt;

use dns::{CacheUse, LATENCY_BOUNDS, Limited};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Writes the counters of `metrics`.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, metrics: &dns::Metrics) -> fmt::Result {
    let responses = metrics.responses().into_iter().map(|responses| {
        let transport = responses.transport.name();
        let labels = [("rcode", responses.rcode), ("type", responses.record_type), ("transport", transport)];
        (labels.map(owned).to_vec(), responses.count)
    });
    counter(encoder, "dns_responses", "DNS responses by code, type of the query and transport", responses)?;

    let Limited { truncated, dropped } = metrics.limited();
    let limited = [("truncated", truncated), ("dropped", dropped)];
    let limited = limited.map(|(how, count)| (vec![owned(("how", how))], count));
    counter(encoder, "dns_limited", "DNS queries of networks that ask too often, by what they got", limited)?;

    let CacheUse { hits, misses, stale } = metrics.cache();
    let cache = [("hit", hits), ("miss", misses), ("stale", stale)];
    let cache = cache.map(|(result, count)| (vec![owned(("result", result))], count));
    counter(encoder, "dns_cache", "DNS queries for names of others, by what the cache had", cache)?;

    let upstreams = metrics.upstreams();
    let queries = upstreams.iter().flat_map(|upstream| {
        let results =
            [("answered", upstream.queries.saturating_sub(upstream.failures)), ("failed", upstream.failures)];
        let labels = |result| vec![("upstream", upstream.address.to_string()), owned(("result", result))];
        results.map(|(result, count)| (labels(result), count))
    });
    counter(encoder, "dns_upstream_queries", "DNS queries to upstreams", queries)?;

    let help = "Time until upstream DNS servers answered, in seconds";
    let mut family = encoder.encode_descriptor("dns_upstream_seconds", help, None, MetricType::Histogram)?;
    upstreams.iter().try_for_each(|upstream| {
        let bounds = LATENCY_BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(upstream.buckets).collect();
        let labels = [("upstream", upstream.address.to_string())];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            upstream.latency.as_secs_f64(),
            upstream.buckets.iter().sum(),
            &buckets,
            None,
        )
    })
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// Writes the counters of one name, each with its labels.
fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<(&'static str, String)>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    values
        .into_iter()
        .try_for_each(|(labels, value)| ConstCounter::new(value).encode(family.encode_family(&labels)?))
}
