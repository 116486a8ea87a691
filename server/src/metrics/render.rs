//! The numbers as text: Prometheus's exposition format, and JSON.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

use super::board::{self, Look, Numbered, column};
use super::exports::{METRICS, Number};

/// The text format 0.0.4, which all versions of Prometheus read.
pub(super) fn prometheus(look: &Look) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for metric in METRICS {
        let name = metric.name;
        // Writing to a String can't fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind.name());
        for sample in metric.samples(look) {
            let suffix = sample.suffix;
            let _ = match sample.label {
                None => writeln!(text, "{name}{suffix} {}", sample.value),
                // None of the values has anything in it that would have to be escaped.
                Some((label, value)) => {
                    writeln!(text, "{name}{suffix}{{{label}=\"{value}\"}} {}", sample.value)
                }
            };
        }
        for row in &look.rows {
            if let Some(value) = metric.of_worker(row) {
                let (age, pid) = (row[column::AGE], row[column::PID]);
                let _ = writeln!(text, "{name}{{worker=\"{age}\",pid=\"{pid}\"}} {value}");
            }
        }
    }
    text
}

/// One object, with Prometheus's names without what they all begin with; that of a worker has `worker_` left out, too.
pub(super) fn json(look: &Look) -> Value {
    let mut all = Map::new();
    for metric in METRICS.iter().filter(|metric| !metric.is_workers()) {
        let name = metric.name.trim_start_matches("greenserve_");
        for sample in metric.samples(look) {
            let path =
                [sample.suffix.trim_start_matches('_'), sample.label.as_ref().map_or("", |(_, it)| it)];
            let mut at = all.entry(name).or_insert(Value::Null);
            for step in path.into_iter().filter(|step| !step.is_empty()) {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at = &mut at[step];
            }
            *at = value(sample.value);
        }
    }
    let workers = look.rows.iter().map(worker).collect();
    // By this name there are the numbers of workers by state, too.
    let states = all.insert("workers".to_owned(), Value::Array(workers));
    all.insert("workers_by_state".to_owned(), states.unwrap_or_default());
    Value::Object(all)
}

fn worker(row: &Numbered) -> Value {
    let state = board::state(row).name();
    let mut worker = json!({ "worker": row[column::AGE], "pid": row[column::PID], "state": state });
    for metric in METRICS {
        if let Some(number) = metric.of_worker(row) {
            worker[metric.name.trim_start_matches("greenserve_worker_")] = value(number);
        }
    }
    worker
}

fn value(number: Number) -> Value {
    match number {
        Number::Whole(number) => number.into(),
        Number::Real(number) => number.into(),
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            Number::Real(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::board::Board;
    use crate::metrics::meter::Meter;

    fn look() -> Look {
        let board = Board::new().unwrap();
        let meter = Meter::new(board.clone(), board.begin(3).unwrap(), None);
        meter.accepts(7);
        meter.end(meter.begin(), ::http::StatusCode::OK, 5);
        board.look()
    }

    #[test]
    fn prometheus_gets_help_type_labels_and_cumulative_buckets() {
        let text = prometheus(&look());
        let has = |line: &str| assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        has("# TYPE greenserve_requests_total counter");
        has("greenserve_requests_total 1");
        has("greenserve_responses_total{class=\"2xx\"} 1");
        has("greenserve_request_duration_seconds_bucket{le=\"0.00025\"} 1");
        has("greenserve_request_duration_seconds_bucket{le=\"+Inf\"} 1");
        has("greenserve_workers{state=\"ready\"} 1");
        has(&format!("greenserve_worker_connections_limit{{worker=\"3\",pid=\"{}\"}} 7", std::process::id()));
    }

    #[test]
    fn json_has_the_same_numbers() {
        let json = json(&look());
        assert_eq!(json["requests_total"], 1);
        assert_eq!(json["responses_total"]["2xx"], 1);
        assert_eq!(json["request_duration_seconds"]["count"], 1);
        assert_eq!(json["request_duration_seconds"]["bucket"]["+Inf"], 1);
        assert_eq!(json["workers_by_state"]["ready"], 1);
        assert_eq!(
            (&json["workers"][0]["worker"], &json["workers"][0]["state"]),
            (&3.into(), &"ready".into())
        );
        assert_eq!(json["workers"][0]["requests_total"], 1);
    }
}
