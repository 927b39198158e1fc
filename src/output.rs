//! What commands print: results on standard output, everything else on standard error.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

/// A form of output that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl DataFormat {
    /// Writes `value` in this form, with a newline at its end.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(self, out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(value)?,
            Self::Yaml => serde_saphyr::to_string(value).map_err(io::Error::other)?,
        };
        writeln!(out, "{}", text.trim_end())
    }
}

/// A form of output that people or programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// The form for programs, unless it is the table.
    #[must_use]
    pub fn data(self) -> Option<DataFormat> {
        match self {
            Self::Table => None,
            Self::Json => Some(DataFormat::Json),
            Self::Yaml => Some(DataFormat::Yaml),
        }
    }
}

/// Rows of text under headings, shown in columns that are as wide as their longest cell.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    #[must_use]
    pub fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GAP: usize = 3;
        let widths: [usize; N] = std::array::from_fn(|column| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in &self.rows {
            let line: String =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<0$}", width + GAP)).collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Tells the user of an error, each line of it on its own.
pub fn print_error(error: &impl fmt::Display) {
    print_lines("error", AnsiColor::Red, error);
}

/// Tells the user of something that is likely not meant so.
pub fn print_warning(warning: &impl fmt::Display) {
    print_lines("warning", AnsiColor::Yellow, warning);
}

/// Tells the user what was done, or what to do next.
pub fn print_note(note: &impl fmt::Display) {
    print_lines("note", AnsiColor::Cyan, note);
}

/// Colors appear on terminals only. Nobody can be told when standard error is closed.
fn print_lines(label: &str, color: AnsiColor, text: &impl fmt::Display) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    let mut stderr = anstream::stderr().lock();
    for line in text.to_string().lines() {
        let _ = writeln!(stderr, "{style}{label}:{style:#} {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(["ROUTE", "STATE"]);
        table.row(["alice-bob".to_owned(), "ok".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "ROUTE       STATE\nalice-bob   ok\né\n");
    }

    #[test]
    fn data_ends_with_one_newline() {
        for (format, text) in [(DataFormat::Json, "{\n  \"a\": 1\n}\n"), (DataFormat::Yaml, "a: 1\n")] {
            let mut out = Vec::new();
            format.write(&mut out, &serde_json::json!({"a": 1})).expect("memory takes everything");
            assert_eq!(String::from_utf8(out).expect("is text"), text);
        }
    }
}
