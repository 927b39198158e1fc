//! The overview that `networkmesh --help` gives.

use std::fmt::Write as _;

use clap::Command;

pub(super) const ABOUT: &str = "\
The network mesh of a privacy-computing domain, on a stock Envoy.

It runs beside Envoy and turns the domain's routes, tokens, services and keys into Envoy's configuration, names \
for applications, and certificates.";

/// Every command that is shown, by what it is for.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Running a domain", &["demo", "run", "bootstrap", "controller", "check"]),
    ("Looking into a running mesh", &["status", "explain", "queries", "dump"]),
    ("Keys and certificates", &["keygen", "cert", "csr"]),
    ("Setting up", &["crds", "completions"]),
];

/// Replaces clap's flat list of commands by groups.
pub(super) fn grouped(command: Command) -> Command {
    let (header, literal) = (*command.get_styles().get_header(), *command.get_styles().get_literal());
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n\n".to_owned();
    for (title, names) in GROUPS {
        let _ = writeln!(template, "{header}{title}:{header:#}");
        for subcommand in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(template, "  {literal}{:<12}{literal:#} {about}", subcommand.get_name());
        }
        template.push('\n');
    }
    let _ = writeln!(template, "{header}Options:{header:#}\n{{options}}");
    command.help_template(template)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let all: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(grouped.len(), all.len());
        assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
