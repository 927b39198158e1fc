//! What goes to the log, and in which form.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use model::Problem;
use tracing_subscriber::EnvFilter;

use super::CommandError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to log: error, warn, info, debug, trace, or filters such as warn,networkmesh=debug
    ///
    /// [default: $RUST_LOG, else info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Logging")]
    log_level: Option<String>,
    /// How log lines look on standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Logging")]
    log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    /// Lets everything that is logged from now on go to standard error.
    pub(super) fn start(&self) -> Result<(), CommandError> {
        let (what, filter) = match &self.log_level {
            Some(level) => ("--log-level", level.clone()),
            None => ("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_default()),
        };
        let filter = if filter.is_empty() { "info".to_owned() } else { filter };
        // kube logs every failed try, and answers that it cannot read, whatever they hold; the source says what is wrong,
        // and once. hickory warns of packets that anybody can send: malformed options, and what is no answer to its question.
        let filter =
            format!("kube_client=off,kube_runtime=off,hickory_net=error,hickory_proto=error,{filter}");
        let filter = EnvFilter::builder().parse(filter).map_err(|error| CommandError::Argument {
            what: what.to_owned(),
            problem: Problem::new(error.to_string(), "use a level such as info or debug"),
        })?;
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.log_format {
            LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
            LogFormat::Json => subscriber.json().init(),
        }
        Ok(())
    }
}
