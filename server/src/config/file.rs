//! The settings file: TOML, with the settings' names as keys.

use std::fmt;

use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, Setting};

/// A setting as the file has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where in the table of settings.
    pub(super) index: usize,
    /// The value, as it would be typed on the command line.
    pub(super) text: String,
    /// The line it stands in.
    pub(super) line: usize,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads the settings in `text`, in the order of the table. Values are strings, numbers or booleans, and for a setting that can
/// be given several times a list of them.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| Fault {
        line: line(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let fault = |what| Fault { line: line(key.span().start), what };
        let name = key.get_ref().replace('-', "_");
        let (index, setting) = find(&name).ok_or_else(|| fault(unknown(key.get_ref())))?;
        let wrong = |what: String| fault(format!("{}: {what}", setting.name));
        let text = typed(value.get_ref(), setting.repeatable).map_err(wrong)?;
        (setting.check)(&text).map_err(|expected| wrong(format!("invalid value '{text}': {expected}")))?;
        entries.push(Entry { index, text, line: line(key.span().start) });
    }
    entries.sort_by_key(|entry| entry.index);
    Ok(entries)
}

fn find(name: &str) -> Option<(usize, &'static Setting)> {
    SETTINGS.iter().enumerate().find(|(_, setting)| setting.name == name)
}

/// As it would be typed.
fn typed(value: &DeValue<'_>, repeatable: bool) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Array(list) if repeatable => {
            let parts: Result<Vec<String>, String> =
                list.iter().map(|part| typed(part.get_ref(), false)).collect();
            Ok(parts?.join(","))
        }
        DeValue::Array(_) => Err("a list is not expected here".to_owned()),
        DeValue::Table(_) => Err("a table is not expected here".to_owned()),
        DeValue::Datetime(_) => Err("a date is not expected here".to_owned()),
    }
}

/// What to say of a key that is no setting.
fn unknown(key: &str) -> String {
    let flag = key.replace('_', "-");
    let near = SETTINGS
        .iter()
        .map(|setting| {
            let names =
                std::iter::once(setting.name).chain([setting.flag]).chain(setting.aliases.iter().copied());
            let distance = |name: &str| strsim::damerau_levenshtein(&name.replace('_', "-"), &flag);
            (names.map(distance).min().unwrap_or(usize::MAX), setting.name)
        })
        .min();
    match near {
        Some((distance, name)) if distance <= 3 && distance < key.len() => {
            format!("there is no setting '{key}'; did you mean '{name}'?")
        }
        _ => format!("there is no setting '{key}'; --print-config lists all of them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<(&'static str, String)> {
        read(file).unwrap().into_iter().map(|entry| (SETTINGS[entry.index].name, entry.text)).collect()
    }

    #[test]
    fn values_of_each_kind_are_read_as_they_would_be_typed() {
        let file = "workers = 3\nbind = [\"a:1\", \"unix:/s\"]\nkeepalive = 0.5\nreuse_port = true\nloglevel = 'debug'\n";
        let expected = [
            ("bind", "a:1,unix:/s"),
            ("reuse_port", "true"),
            ("workers", "3"),
            ("keepalive", "0.5"),
            ("loglevel", "debug"),
        ];
        assert_eq!(texts(file), expected.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(texts("bind = 'a:1'"), [("bind", "a:1".to_owned())]);
        assert_eq!(
            texts("graceful-timeout = 5"),
            [("graceful_timeout", "5".to_owned())],
            "as the flag has it"
        );
    }

    #[test]
    fn what_is_wrong_names_its_line_and_what_would_be_right() {
        for (file, line, needles) in [
            ("workers = 1\nworkerz = 2\n", 2, &["workerz", "'workers'"][..]),
            ("\n\nkeep_alive = 2", 3, &["keep_alive", "'keepalive'"]),
            ("frobnicate = 2", 1, &["frobnicate", "--print-config"]),
            ("workers = 'many'", 1, &["workers", "many", "whole number"]),
            ("workers = [1]", 1, &["workers", "list"]),
            ("[server]\nworkers = 1", 1, &["server"]),
            ("bind = 'a:1'\nworkers = \n", 2, &[]),
        ] {
            let fault = read(file).unwrap_err();
            assert_eq!(fault.line, line, "{file}: {fault}");
            assert!(needles.iter().all(|needle| fault.what.contains(needle)), "{file}: {fault}");
        }
    }
}
