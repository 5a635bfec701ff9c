//! Builds a search space file together with its defaults.

use std::fmt::{Arguments, Write as _};

use super::{DefaultSpace, Params, Value};

/// Collects parameters in the order in which they are given.
#[derive(Default)]
pub(super) struct SpaceWriter<'a> {
    /// The settings that are written; empty means all.
    known: &'a [String],
    parameters: String,
    forbids: String,
    defaults: Params,
    fixed: Params,
}

impl<'a> SpaceWriter<'a> {
    /// Of these settings alone; of all when there are none.
    pub(super) fn new(known: &'a [String]) -> Self {
        Self { known, ..Self::default() }
    }

    fn knows(&self, name: &str) -> bool {
        self.known.is_empty() || self.known.iter().any(|known| known == name)
    }

    /// A setting that is not searched.
    pub(super) fn fix(&mut self, name: &str, value: Value) {
        if !self.knows(name) {
            return;
        }
        self.defaults.insert(name.to_owned(), value.clone());
        self.fixed.insert(name.to_owned(), value);
    }

    /// One of `choices`, `default` among them; returns whether there is anything to search.
    pub(super) fn choose(&mut self, name: &str, choices: &[Value], default: &Value) -> bool {
        if choices.len() < 2 || !self.knows(name) {
            self.fix(name, default.clone());
            return false;
        }
        self.defaults.insert(name.to_owned(), default.clone());
        let choices: Vec<String> = choices.iter().map(literal).collect();
        self.line(format_args!("[parameters.{name}]"));
        self.line(format_args!("choices = [{}]", choices.join(", ")));
        self.line(format_args!("default = {}", literal(default)));
        true
    }

    /// A whole number from `low` to `high`, fixed where that is one number; returns whether there is anything to search.
    pub(super) fn range(&mut self, name: &str, low: i64, high: i64, log: bool, default: i64) -> bool {
        if low >= high || !self.knows(name) {
            self.fix(name, Value::Int(default));
            return false;
        }
        self.defaults.insert(name.to_owned(), Value::Int(default));
        self.line(format_args!("[parameters.{name}]"));
        self.line(format_args!("type = \"int\""));
        self.line(format_args!("low = {low}"));
        self.line(format_args!("high = {high}"));
        if log {
            self.line(format_args!("log = true"));
        }
        self.line(format_args!("default = {default}"));
        true
    }

    /// Whether a parameter of this name was written.
    pub(super) fn searches(&self, name: &str) -> bool {
        self.parameters.contains(&format!("[parameters.{name}]\n"))
    }

    /// The condition of the parameter that was written last.
    pub(super) fn when(&mut self, condition: &str) {
        self.line(format_args!("when = \"{condition}\""));
    }

    /// A combination that is never tried.
    pub(super) fn forbid(&mut self, condition: &str, why: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.forbids, "[[forbid]]\nif = \"{condition}\"\nwhy = \"{why}\"");
    }

    pub(super) fn finish(self) -> DefaultSpace {
        DefaultSpace { toml: self.parameters + &self.forbids, defaults: self.defaults, fixed: self.fixed }
    }

    fn line(&mut self, line: Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.parameters, "{line}");
    }
}

/// A value in TOML. The texts written here hold neither quotes nor backslashes.
fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => value.to_string(),
    }
}
