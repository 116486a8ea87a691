//! The settings file: TOML, with the settings' names as keys.

use std::fmt;

use toml::Spanned;
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
/// have several a list of them, or a table of those that are NAME=VALUE.
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
        let text = typed(value.get_ref(), setting.list).map_err(wrong)?;
        (setting.check)(&text).map_err(|expected| wrong(format!("invalid value '{text}': {expected}")))?;
        entries.push(Entry { index, text, line: line(key.span().start) });
    }
    entries.sort_by_key(|entry| entry.index);
    Ok(entries)
}

fn find(name: &str) -> Option<(usize, &'static Setting)> {
    SETTINGS.iter().enumerate().find(|(_, setting)| setting.name == name)
}

/// As it would be typed; `list` stands between the values of one that has several.
fn typed(value: &DeValue<'_>, list: Option<&str>) -> Result<String, String> {
    match (value, list) {
        (DeValue::String(text), _) => Ok(text.to_string()),
        (DeValue::Integer(number), _) => Ok(number.to_string()),
        (DeValue::Float(number), _) => Ok(number.to_string()),
        (DeValue::Boolean(on), _) => Ok(on.to_string()),
        (DeValue::Array(values), Some(between)) => {
            let parts = values.iter().map(|part| typed(part.get_ref(), None));
            Ok(parts.collect::<Result<Vec<String>, String>>()?.join(between))
        }
        (DeValue::Table(pairs), Some(between)) => {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Ok(format!("{}={}", name.get_ref(), typed(value.get_ref(), None)?))
            };
            Ok(pairs.iter().map(pair).collect::<Result<Vec<String>, String>>()?.join(between))
        }
        (DeValue::Array(_), None) => Err("a list is not expected here".to_owned()),
        (DeValue::Table(_), None) => Err("a table is not expected here".to_owned()),
        (DeValue::Datetime(_), _) => Err("a date is not expected here".to_owned()),
    }
}

/// The value as it would stand in a file.
pub(super) fn written(setting: &Setting, text: &str) -> String {
    match setting.list {
        Some(between) if !text.is_empty() => {
            let parts: Vec<String> = text.split(between).map(one).collect();
            format!("[{}]", parts.join(", "))
        }
        Some(_) => "[]".to_owned(),
        None => one(text),
    }
}

fn one(text: &str) -> String {
    let is_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
        || text.parse::<f64>().is_ok_and(|number| number.is_finite() && format!("{number:?}") == text);
    if is_number || ["true", "false"].contains(&text) {
        return text.to_owned();
    }
    toml::Value::from(text).to_string()
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
    fn a_setting_of_several_values_may_be_a_list_or_a_table() {
        for (file, text) in [
            ("forwarded_allow_ips = ['10.0.0.0/8', '::1']", "10.0.0.0/8,::1"),
            ("raw_env = ['A=1,2', 'B=x']", "A=1,2\nB=x"),
            ("umask = 0o27", "0o27"),
            ("certfile = []", ""),
        ] {
            assert_eq!(texts(file)[0].1, text, "{file}");
        }
        assert_eq!(texts("secure_scheme_headers = { X-SSL = 'on' }")[0].1, "X-SSL=on");
        assert_eq!(texts("[raw_env]\nA = 1\nB = 'c=d'")[0].1, "A=1\nB=c=d");
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for text in ["", "7", "007", "1.5", "1.2", "1e9", "true", "inf", "a \"b\" \\ c", "x\ny", "0o22", "-1"]
        {
            for name in ["proc_name", "raw_env"] {
                let setting = find(name).unwrap().1;
                let line = format!("k = {}", written(setting, text));
                let table = DeTable::parse(&line).unwrap();
                let value = table.get_ref().values().next().unwrap();
                assert_eq!(typed(value.get_ref(), setting.list).as_deref(), Ok(text), "{line}");
            }
        }
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
