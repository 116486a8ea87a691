//! What a master answers, for people to read.

use std::fmt::Write;

use serde_json::{Map, Value};

/// In which order the columns of a table stand. What is not named here comes behind.
const COLUMNS: &[(&str, &[&str])] = &[
    (
        "workers",
        &[
            "pid",
            "age",
            "seat",
            "state",
            "uptime",
            "last_heartbeat",
            "resident",
            "requests",
            "requests_in_progress",
            "connections",
            "booted",
            "aborted",
            "outdated",
        ],
    ),
    ("listeners", &["address", "type", "waiting", "fd", "bind"]),
    ("connections", &["hub", "peer", "state", "since", "requests", "request", "waits"]),
    (
        "greenlets",
        &["hub", "id", "parent", "name", "since", "what", "stack_used", "stack_size", "spawned_at"],
    ),
];

/// Hubs of a worker that could not be asked.
const SILENT: &str = "silent";

/// The data of an answer as text: tables for lists, else a line for each value.
pub(crate) fn render(data: &Value) -> String {
    let mut out = String::new();
    match data {
        Value::Object(map) => object(&mut out, map),
        other => out.push_str(&cell("", other)),
    }
    out
}

fn object(out: &mut String, map: &Map<String, Value>) {
    let is_nested = |value: &Value| value.is_array() || value.is_object();
    let plain = || map.iter().filter(|(name, value)| !is_nested(value) && *name != "text");
    // How many there are shows in the table.
    let is_counted = map.values().any(|value| matches!(value, Value::Array(list) if map.get("count").and_then(Value::as_u64) == Some(list.len() as u64)));
    let rows: Vec<Vec<String>> = plain()
        .filter(|(name, _)| !(is_counted && *name == "count"))
        .map(|(name, value)| vec![name.clone(), cell(name, value)])
        .collect();
    columns(out, &rows);
    for (name, value) in map.iter().filter(|(name, value)| is_nested(value) || *name == "text") {
        if !out.is_empty() && !out.ends_with("\n\n") {
            out.push('\n');
        }
        match value {
            Value::Array(list) => table(out, name, list),
            Value::Object(map) => object(out, map),
            text => out.push_str(&lines(text.as_str().unwrap_or_default())),
        }
    }
}

fn table(out: &mut String, name: &str, list: &[Value]) {
    let maps: Vec<&Map<String, Value>> = list.iter().filter_map(Value::as_object).collect();
    let is_long = |map: &&Map<String, Value>| {
        map.values().any(|value| value.is_array()) || map.contains_key("text") || map.contains_key("error")
    };
    if maps.iter().any(is_long) {
        return maps.iter().for_each(|map| chapter(out, map));
    }
    let Some(first) = maps.first() else {
        let _ = writeln!(out, "no {name}");
        return;
    };
    let known = COLUMNS.iter().find(|(table, _)| *table == name).map_or(&[][..], |(_, columns)| columns);
    let named = known.iter().copied().filter(|column| first.contains_key(*column));
    let others = first.keys().map(String::as_str).filter(|column| !known.contains(column));
    let heads: Vec<&str> = named.chain(others).collect();
    let mut rows = vec![heads.iter().map(|head| head.to_uppercase()).collect::<Vec<_>>()];
    rows.extend(
        maps.iter()
            .map(|map| heads.iter().map(|head| cell(head, map.get(*head).unwrap_or(&Value::Null))).collect()),
    );
    columns(out, &rows);
}

/// What one worker has to say.
fn chapter(out: &mut String, map: &Map<String, Value>) {
    let of = |name: &str| cell(name, map.get(name).unwrap_or(&Value::Null));
    let _ = write!(out, "worker {} (age {})", of("pid"), of("age"));
    if let Some(error) = map.get("error") {
        let _ = writeln!(out, ": {}", cell("error", error));
        return;
    }
    for (name, value) in map {
        match value {
            // Behind the others.
            Value::Array(_) if name == SILENT => {}
            Value::Array(list) => {
                let all = map.get("count").and_then(Value::as_u64).unwrap_or(list.len() as u64);
                let _ = match all - list.len() as u64 {
                    0 => writeln!(out, ": {all} {name}"),
                    more => writeln!(out, ": {all} {name}, of which {more} are not shown"),
                };
                if !list.is_empty() {
                    table(out, name, list);
                }
            }
            Value::String(text) if name == "text" => {
                out.push('\n');
                out.push_str(&lines(text));
            }
            _ => {}
        }
    }
    for hub in map.get(SILENT).and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(out, "hub {}: {}", cell("hub", &hub["hub"]), cell("why", &hub["why"]));
    }
    out.push('\n');
}

/// With two spaces between the columns, and none behind the last.
fn columns(out: &mut String, rows: &[Vec<String>]) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn cell(name: &str, value: &Value) -> String {
    match (name, value) {
        (_, Value::Null) => "-".to_owned(),
        (_, Value::Bool(true)) => "yes".to_owned(),
        (_, Value::Bool(false)) => "no".to_owned(),
        ("since" | "uptime" | "last_heartbeat", Value::Number(seconds)) => match seconds.as_f64() {
            Some(seconds) if seconds >= 100.0 => format!("{seconds:.0} s"),
            Some(seconds) => format!("{seconds:.2} s"),
            None => seconds.to_string(),
        },
        ("resident", Value::Number(bytes)) => {
            format!("{:.1} MiB", bytes.as_f64().unwrap_or(0.0) / (1 << 20) as f64)
        }
        ("stack_used" | "stack_size", Value::Number(bytes)) => {
            format!("{} KiB", bytes.as_u64().unwrap_or(0) / 1024)
        }
        (_, Value::String(text)) => lines(text).replace('\n', " "),
        (_, other) => other.to_string(),
    }
}

/// Without what a terminal might obey.
fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hubs_that_could_not_be_asked_stand_behind_what_the_others_have() {
        let data = json!({"workers": [{
            "pid": 17, "age": 1, "count": 0, "connections": [], "silent": [{"hub": 2, "why": "it hangs"}],
        }]});
        assert_eq!(render(&data), "worker 17 (age 1): 0 connections\nhub 2: it hangs\n\n");
    }

    #[test]
    fn lists_are_tables_and_single_values_lines() {
        let data = json!({"count": 2, "workers": [
            {"pid": 17, "state": "ready", "age": 1, "resident": 1 << 21, "last_heartbeat": 0.5, "new": null},
            {"pid": 1018, "state": "booting", "age": 2, "resident": null, "last_heartbeat": 123.4, "new": true},
        ]});
        let expected = "\
PID   AGE  STATE    LAST_HEARTBEAT  RESIDENT  NEW
17    1    ready    0.50 s          2.0 MiB   -
1018  2    booting  123 s           -         yes
";
        assert_eq!(render(&data), expected);
        assert_eq!(render(&json!({"status": "reloading"})), "status  reloading\n");
        assert_eq!(render(&json!({"count": 0, "listeners": []})), "no listeners\n");
    }

    #[test]
    fn what_each_worker_has_to_say_has_its_head_and_errors_stand_there() {
        let data = json!({"workers": [
            {"pid": 7, "age": 1, "count": 3, "connections": [{"peer": "a", "state": "idle"}]},
            {"pid": 8, "age": 2, "error": "it hangs"},
            {"pid": 9, "age": 3, "text": "one\n  two\n"},
        ]});
        let expected = "\
worker 7 (age 1): 3 connections, of which 2 are not shown
PEER  STATE
a     idle

worker 8 (age 2): it hangs
worker 9 (age 3)
one
  two

";
        assert_eq!(render(&data), expected);
    }

    #[test]
    fn nothing_is_told_to_the_terminal() {
        assert_eq!(render(&json!({"a": "x\u{1b}[2Jy\nz"})), "a  x\\u{1b}[2Jy z\n");
    }
}
