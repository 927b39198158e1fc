//! `networkmesh explain`.

use std::io::Write;

use super::ask::{Question, ask, misunderstood};
use super::{AdminArgs, CommandError, Verdict};
use crate::explain::Explanation;
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  networkmesh explain echo.bob.svc
  networkmesh explain example.com -o json | jq .reasons";

/// Show what a name resolves to, and why
///
/// Exits with 1 if the name does not resolve. A name of others is looked up as an application would.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The whole name, as clients ask for it after all search paths; the final dot may be left out
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub(super) fn execute(args: &Args, out: &mut dyn Write) -> Result<Verdict, CommandError> {
    let answer = ask(&args.admin, &Question::new("/explain").with("name", &args.name))?;
    let explanation: Explanation =
        serde_json::from_slice(&answer).map_err(|error| misunderstood(&args.admin, &error))?;
    match args.output.data() {
        Some(format) => format.write(out, &explanation)?,
        None => print(&explanation, out)?,
    }
    Ok(if explanation.resolves { Verdict::Fine } else { Verdict::NotWell })
}

fn print(explanation: &Explanation, out: &mut dyn Write) -> Result<(), CommandError> {
    let Explanation { name, resolves, meaning, reasons, records, near } = explanation;
    let verdict = if *resolves { "resolves" } else { "does not resolve" };
    writeln!(out, "{name} {verdict}: it is {meaning}")?;
    for reason in reasons {
        writeln!(out, "  - {reason}")?;
    }
    if !records.is_empty() {
        writeln!(out, "Records:")?;
    }
    for record in records {
        writeln!(out, "  {record}")?;
    }
    if !near.is_empty() {
        writeln!(out, "Did you mean {}?", near.join(" or "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_a_verdict_with_reasons() {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        let explanation = Explanation {
            name: "webb.alice.svc.".to_owned(),
            resolves: false,
            meaning: "service webb of this domain".to_owned(),
            reasons: words(&["this domain has no service webb"]),
            records: Vec::new(),
            near: words(&["web.alice.svc", "web2.alice.svc"]),
        };
        let shown = |explanation: &Explanation| {
            let mut out = Vec::new();
            print(explanation, &mut out).expect("memory takes everything");
            String::from_utf8(out).expect("is text")
        };
        assert_eq!(
            shown(&explanation),
            "webb.alice.svc. does not resolve: it is service webb of this domain\n  \
             - this domain has no service webb\nDid you mean web.alice.svc or web2.alice.svc?\n"
        );
        let explanation = Explanation {
            resolves: true,
            records: words(&["web. 5 IN A 192.0.2.1"]),
            near: Vec::new(),
            reasons: Vec::new(),
            ..explanation
        };
        assert_eq!(
            shown(&explanation),
            "webb.alice.svc. resolves: it is service webb of this domain\nRecords:\n  web. 5 IN A 192.0.2.1\n"
        );
    }
}
