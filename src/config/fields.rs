//! An object, read field by field.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use model::{FieldErrors, Problem};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be offered for the other.
const NEAR_MISS: f64 = 0.8;

/// The fields of an object that were not read yet, and what was wrong with the others.
///
/// Methods that read a field answer `None` where it is missing or `null`, and where it is wrong: then they note why.
#[derive(Default)]
pub(super) struct Fields {
    /// Path of the object with a final dot; empty for the whole document.
    prefix: String,
    values: Map<String, Value>,
    /// The names that were asked for.
    known: Vec<&'static str>,
    errors: FieldErrors,
}

impl Fields {
    pub(super) fn new(values: Map<String, Value>) -> Self {
        Self { values, ..Self::default() }
    }

    /// Whether the object has this field, right or wrong, and it was not read yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether the object has this field, be it empty.
    pub(super) fn names(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Reads true or false.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        let problem = || Problem::new("is neither true nor false", "write true or false, without quotes");
        let flag = value.as_bool().ok_or_else(problem);
        self.check(name, flag)
    }

    /// Reads text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        let text = text_of(value);
        self.check(name, text)
    }

    /// Reads text, which may be a secret, and parses it.
    pub(super) fn parse<T, P: Into<Problem>>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, P>,
    ) -> Option<T> {
        let text = Zeroizing::new(self.text(name)?);
        self.check(name, parse(&text))
    }

    /// Reads the path of a file, relative to `folder`. Notes where it is missing; the path is then of no use.
    pub(super) fn file(&mut self, name: &'static str, folder: &Path, remedy: &str) -> PathBuf {
        self.require(name, remedy);
        folder.join(self.text(name).unwrap_or_default())
    }

    /// Reads a list of texts and parses each.
    pub(super) fn list<T, P: Into<Problem>>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, P>,
    ) -> Option<Vec<T>> {
        let items = match self.take(name)? {
            Value::Array(items) => items,
            other => {
                let problem =
                    Problem::new(format!("is {}", kind(&other)), format!("write a list: `{name}: [a, b]`"));
                self.note(name, problem);
                return None;
            }
        };
        let parsed = items.into_iter().enumerate().map(|(position, item)| {
            let result = text_of(item).and_then(|text| parse(&text).map_err(Into::into));
            self.errors.check(&format!("{}{name}[{position}]", self.prefix), result)
        });
        // All items are looked at before one that is wrong makes the list wrong.
        parsed.collect::<Vec<_>>().into_iter().collect()
    }

    /// Reads a whole number.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number)).ok_or_else(|| {
            let remedy = format!("give a whole number from {} to {}", range.start(), range.end());
            Problem::new(format!("{value} is out of range or no whole number"), remedy)
        });
        self.check(name, number)
    }

    /// Reads a part of a hundred, which need not be whole.
    pub(super) fn percentage(&mut self, name: &'static str) -> Option<f64> {
        let value = self.take(name)?;
        let percentage = value.as_f64().filter(|part| (0.0..=100.0).contains(part)).ok_or_else(|| {
            Problem::new(format!("{value} is no percentage"), "give a number from 0 to 100, without quotes")
        });
        self.check(name, percentage)
    }

    /// Reads an object within this one. A missing one is read as one without fields, so that its defaults apply.
    pub(super) fn section<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let values = match self.take(name) {
            None => Map::new(),
            Some(Value::Object(values)) => values,
            Some(other) => {
                let remedy = format!(
                    "write its fields below it, each as `name: value` and further right than `{name}`"
                );
                self.note(name, Problem::new(format!("is {}", kind(&other)), remedy));
                Map::new()
            }
        };
        let prefix = format!("{}{name}.", self.prefix);
        let errors = std::mem::take(&mut self.errors);
        let mut section = Self { prefix, values, known: Vec::new(), errors };
        let value = read(&mut section);
        section.refuse_unknown();
        self.errors = section.errors;
        value
    }

    /// Reads an object within this one, if it is there.
    pub(super) fn optional_section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if self.has(name) {
            return Some(self.section(name, read));
        }
        self.known.push(name);
        None
    }

    /// Notes that a field is missing, if it is.
    pub(super) fn require(&mut self, name: &'static str, remedy: &str) {
        if !self.has(name) {
            self.note(name, Problem::new("is missing", remedy));
        }
    }

    /// Notes a problem of a field.
    pub(super) fn note(&mut self, name: &str, problem: Problem) {
        self.errors.add(format!("{}{name}", self.prefix), problem);
    }

    /// Takes the value out of `result`, or notes its problem.
    pub(super) fn check<T, P: Into<Problem>>(&mut self, name: &str, result: Result<T, P>) -> Option<T> {
        self.errors.check(&format!("{}{name}", self.prefix), result)
    }

    /// Notes `problem` of each of these fields that the object has.
    pub(super) fn refuse(&mut self, names: &[&'static str], problem: &Problem) {
        for name in names {
            if self.take(name).is_some() {
                self.note(name, problem.clone());
            }
        }
    }

    /// Notes every field that was never asked for.
    pub(super) fn refuse_unknown(&mut self) {
        for name in std::mem::take(&mut self.values).keys() {
            let likeness = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
            let nearest = self.known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let remedy = match nearest {
                Some(nearest) if likeness(nearest) >= NEAR_MISS => format!("did you mean {nearest:?}?"),
                _ => format!("the fields here are {}", self.known.join(", ")),
            };
            self.note(name, Problem::new("is unknown", remedy));
        }
    }

    /// Everything that was noted.
    pub(super) fn into_errors(self) -> FieldErrors {
        self.errors
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.values.remove(name).filter(|value| !value.is_null())
    }
}

/// The problem names no value, which may be a secret.
fn text_of(value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => {
            Err(Problem::new(format!("is {}", kind(&value)), "put it in quotes"))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(Problem::new(format!("is {}", kind(&value)), "write one text here"))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false, not text",
        Value::Number(_) => "a number, not text",
        Value::String(_) => "a single text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
