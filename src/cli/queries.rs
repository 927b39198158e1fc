//! `networkmesh queries`.

use std::io::Write;
use std::ops::ControlFlow;

use clap::ValueEnum;
use dns::QueryEntry;
use model::Problem;

use super::ask::{Question, follow, misunderstood};
use super::{AdminArgs, CommandError, Verdict};
use crate::queries::Line;

const EXAMPLES: &str = "\
Examples:
  networkmesh queries --name alice.svc
  networkmesh queries --count 1000 -o json | jq -r .client | sort | uniq -c";

/// Show DNS queries as they come
///
/// Queries are noted only while somebody looks; those before are not shown. It goes on until it is interrupted, unless
/// --count is given. Where more come than can be shown, the rest is counted.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    admin: AdminArgs,
    /// Show queries for this name and all below it only
    #[arg(long, value_name = "SUFFIX", default_value = "")]
    name: String,
    /// End after so many queries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Form,
}

/// A form that can be written line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A table for people.
    Table,
    /// One JSON object a line.
    Json,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    if args.output == Form::Table {
        let headings = ["TIME", "CLIENT", "VIA", "TYPE", "RCODE", "FROM", "MICROS", "NAME"];
        writeln!(out, "{}", row(headings.map(str::to_owned)))?;
    }
    let question = Question::new("/dns/queries").with("name", &args.name);
    let mut left = args.count.unwrap_or(u64::MAX);
    follow(&args.admin, &question, |text| {
        let line: Line = serde_json::from_slice(text).map_err(|error| misunderstood(&args.admin, &error))?;
        match args.output {
            Form::Table => writeln!(out, "{}", shown(&line))?,
            Form::Json => writeln!(out, "{}", String::from_utf8_lossy(text))?,
        }
        left -= u64::from(matches!(line, Line::Query(_)));
        Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if left == 0 {
        return Ok(Verdict::Fine);
    }
    let remedy = "see its log; start it again if it has ended";
    Err(CommandError::Mesh(Problem::new("the mesh shows no more queries", remedy)))
}

fn shown(line: &Line) -> String {
    match line {
        Line::Query(QueryEntry { time, client, transport, name, record_type, rcode, how, micros }) => row([
            format!("{time:.3}"),
            client.to_string(),
            transport.name().to_owned(),
            record_type.clone(),
            rcode.as_deref().unwrap_or("-").to_owned(),
            how.name().to_owned(),
            micros.to_string(),
            name.clone(),
        ]),
        Line::Lost { lost } => format!("… {lost} more queries, faster than they could be shown"),
    }
}

/// The columns are as wide as what usually stands in them: nobody knows what is still to come.
fn row([time, client, via, record_type, rcode, from, micros, name]: [String; 8]) -> String {
    format!(
        "{time:<24}   {client:<15}   {via:<3}   {record_type:<5}   {rcode:<8}   {from:<8}   {micros:>6}   {name}"
    )
}

#[cfg(test)]
mod tests {
    use dns::{How, Transport};

    use super::*;

    #[test]
    fn a_query_is_a_row_and_what_was_lost_is_told() {
        let query = QueryEntry {
            time: "2026-11-22T12:00:00.0421Z".parse().expect("a time"),
            client: "127.0.0.1".parse().expect("an address"),
            transport: Transport::Udp,
            name: "web.alice.svc.".to_owned(),
            record_type: "AAAA".to_owned(),
            rcode: Some("NOERROR".into()),
            how: How::Table,
            micros: 7,
        };
        assert_eq!(
            shown(&Line::Query(query)),
            "2026-11-22T12:00:00.042Z   127.0.0.1         udp   AAAA    NOERROR    table           7   web.alice.svc."
        );
        assert!(shown(&Line::Lost { lost: 12 }).contains("12 more queries"));
    }
}
