//! Every number by the name it is exported under.

use super::board::{self, BOUNDS, BUCKETS, Look, Numbered, State, column};

/// One name, and what stands behind it.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    source: Source,
}

/// Prometheus's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

/// A value, in the unit that it is exported in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

/// A value with what tells it from others of the same name.
pub(super) struct Sample {
    /// What is put behind the name: `_sum`, or nothing.
    pub(super) suffix: &'static str,
    /// Its label, if it has one besides those of its worker.
    pub(super) label: Option<(&'static str, String)>,
    pub(super) value: Number,
}

#[derive(Clone, Copy)]
enum Source {
    /// A column of all rows together; of a counter, with those of workers that have gone.
    Sum(usize, Unit),
    /// The same in several columns, with a label that tells them apart.
    Sums(&'static str, &'static [(&'static str, usize)]),
    /// A count and the sum of what was counted, in microseconds.
    Pair(usize, usize),
    Durations,
    States,
    /// Of the board.
    Own(fn(&Look) -> Number),
    /// Of one worker.
    Row(usize, Unit),
    Silence,
}

/// What a column counts in.
#[derive(Clone, Copy)]
enum Unit {
    One,
    Micros,
    Millis,
    Millionths,
}

impl Unit {
    fn of(self, number: u64) -> Number {
        match self {
            Unit::One => Number::Whole(number),
            Unit::Micros | Unit::Millionths => Number::Real(number as f64 / 1e6),
            Unit::Millis => Number::Real(number as f64 / 1e3),
        }
    }
}

impl Metric {
    /// Whether there is one of it for each worker.
    pub(super) fn is_workers(&self) -> bool {
        matches!(self.source, Source::Row(..) | Source::Silence)
    }

    /// All values of this name that are the server's as a whole.
    pub(super) fn samples(&self, look: &Look) -> Vec<Sample> {
        let sum = |column: usize| {
            let gone = if self.kind == Kind::Gauge { 0 } else { look.gone[column] };
            look.rows.iter().fold(gone, |sum, row| sum.wrapping_add(row[column]))
        };
        let plain = |value| Sample { suffix: "", label: None, value };
        match self.source {
            Source::Sum(column, unit) => vec![plain(unit.of(sum(column)))],
            Source::Own(of) => vec![plain(of(look))],
            Source::Sums(label, columns) => {
                let one = |(value, column): &(&str, usize)| Sample {
                    label: Some((label, (*value).to_owned())),
                    ..plain(Number::Whole(sum(*column)))
                };
                columns.iter().map(one).collect()
            }
            Source::Pair(count, total) => vec![
                Sample { suffix: "_sum", ..plain(Unit::Micros.of(sum(total))) },
                Sample { suffix: "_count", ..plain(Number::Whole(sum(count))) },
            ],
            Source::Durations => durations(&sum),
            Source::States => {
                let count = |state| look.rows.iter().filter(|row| board::state(row) == state).count();
                let one = |state: State| Sample {
                    label: Some(("state", state.name().to_owned())),
                    ..plain(Number::Whole(count(state) as u64))
                };
                State::ALL.into_iter().map(one).collect()
            }
            Source::Row(..) | Source::Silence => Vec::new(),
        }
    }

    /// The value of one worker.
    pub(super) fn of_worker(&self, row: &Numbered) -> Option<Number> {
        match self.source {
            Source::Row(column, unit) => Some(unit.of(row[column])),
            Source::Silence => Some(Number::Real(board::silence(row[column::BEAT]).as_secs_f64())),
            _ => None,
        }
    }
}

/// The buckets of a histogram are cumulative: each holds those below it, too.
fn durations(sum: &impl Fn(usize) -> u64) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(BUCKETS + 2);
    let mut below = 0;
    for bucket in 0..BUCKETS {
        below += sum(column::BUCKET + bucket);
        let bound = BOUNDS.get(bucket).map_or("+Inf".to_owned(), |bound| (*bound as f64 / 1e6).to_string());
        let label = Some(("le", bound));
        samples.push(Sample { suffix: "_bucket", label, value: Number::Whole(below) });
    }
    let total = Unit::Micros.of(sum(column::DURATION));
    samples.push(Sample { suffix: "_sum", label: None, value: total });
    samples.push(Sample { suffix: "_count", label: None, value: Number::Whole(below) });
    samples
}

macro_rules! metrics {
    ($($name:literal $kind:ident $source:expr, $help:literal;)+) => {
        /// In the order in which they are exported.
        pub(super) const METRICS: &[Metric] = &[$(
            Metric { name: concat!("greenserve_", $name), kind: Kind::$kind, help: $help, source: $source },
        )+];
    };
}

const CLASSES: &[(&str, usize)] = &[
    ("1xx", column::CLASSES),
    ("2xx", column::CLASSES + 1),
    ("3xx", column::CLASSES + 2),
    ("4xx", column::CLASSES + 3),
    ("5xx", column::CLASSES + 4),
];
const LEVELS: &[(&str, usize)] = &[("error", column::ERRORS), ("warning", column::WARNINGS)];

metrics! {
    "requests_total" Counter Source::Sum(column::REQUESTS, Unit::One),
        "Requests that were answered, refused ones included.";
    "responses_total" Counter Source::Sums("class", CLASSES),
        "Responses by the class of their status. 499 of a client that has left counts as 4xx.";
    "response_body_bytes_total" Counter Source::Sum(column::BYTES, Unit::One),
        "Bytes of response bodies that were sent, without heads and chunk framing.";
    "request_duration_seconds" Histogram Source::Durations,
        "From a request's head to the end of its answer. Without refused requests and connections that have left HTTP.";
    "requests_in_progress" Gauge Source::Sum(column::UNDER_WAY, Unit::One),
        "Requests whose answer has not ended, upgraded connections included.";
    "exceptions_total" Counter Source::Sum(column::EXCEPTIONS, Unit::One),
        "Handlers that panicked or failed.";
    "connections_accepted_total" Counter Source::Sum(column::ACCEPTED, Unit::One),
        "Connections that were accepted.";
    "connections" Gauge Source::Sum(column::CONNECTIONS, Unit::One),
        "Open connections, idle ones included: so much of the pools is in use.";
    "connections_limit" Gauge Source::Sum(column::LIMIT, Unit::One),
        "How many connections all workers together take at a time.";
    "connection_queue_seconds" Summary Source::Pair(column::QUEUED, column::QUEUE_TIME),
        "From the accepting of a connection to the beginning of its green thread.";
    "log_messages_total" Counter Source::Sums("level", LEVELS),
        "Messages of the error log, those of the master included.";
    "statsd_dropped_total" Counter Source::Sum(column::DROPPED, Unit::One),
        "Datagrams for StatsD that could not be sent.";
    "workers" Gauge Source::States,
        "Worker processes by what they are doing.";
    "worker_starts_total" Counter Source::Own(|look| Number::Whole(look.starts)),
        "Workers that were started.";
    "worker_losses_total" Counter Source::Own(|look| Number::Whole(look.losses)),
        "Workers that ended though nobody had asked them to.";
    "start_time_seconds" Gauge Source::Own(|look| Unit::Millis.of(look.boot_millis)),
        "When the server, or its master, was started, in seconds since 1970.";
    "worker_requests_total" Counter Source::Row(column::REQUESTS, Unit::One),
        "Requests that this worker has answered.";
    "worker_requests_in_progress" Gauge Source::Row(column::UNDER_WAY, Unit::One),
        "Requests of this worker whose answer has not ended.";
    "worker_connections" Gauge Source::Row(column::CONNECTIONS, Unit::One),
        "Open connections of this worker.";
    "worker_connections_limit" Gauge Source::Row(column::LIMIT, Unit::One),
        "How many connections this worker takes at a time.";
    "worker_resident_memory_bytes" Gauge Source::Row(column::MEMORY, Unit::One),
        "Resident memory of this worker, pages shared with the master included.";
    "worker_cpu_seconds_total" Counter Source::Row(column::CPU, Unit::Micros),
        "Processor time that this worker has used.";
    "worker_busy_seconds_total" Counter Source::Row(column::BUSY, Unit::Micros),
        "Time in which this worker's hub was not waiting for anybody; of several hubs the sum. 0 with -k threads.";
    "worker_busy_ratio" Gauge Source::Row(column::BUSY_SHARE, Unit::Millionths),
        "The same as a share of the last second or so, from 0 to 1; of several hubs the average.";
    "worker_longest_stall_seconds" Gauge Source::Row(column::STALL, Unit::Micros),
        "The longest time in the last minute or two for which this worker's hub, or one of its hubs, looked after nobody who was ready. 0 with -k threads.";
    "worker_silence_seconds" Gauge Source::Silence,
        "How long ago this worker last gave a sign of life: it does so every second, if all of its hubs turn.";
    "worker_start_time_seconds" Gauge Source::Row(column::STARTED, Unit::Millis),
        "When this worker was started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- metrics: made from server/src/metrics/exports.rs -->\n";
    const END: &str = "<!-- end of metrics -->";

    #[test]
    fn the_readme_has_the_table_of_metrics_that_the_definitions_give() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once(BEGIN).expect("the mark where the table begins");
        let (found, after) = rest.split_once(END).expect("the mark where the table ends");
        let mut table = "| Name | Type | |\n|---|---|---|\n".to_owned();
        for metric in METRICS {
            let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
            table.push_str(&format!("| `{name}` | {kind} | {help} |\n"));
        }
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
            return;
        }
        assert_eq!(
            found, table,
            "UPDATE_README=1 cargo test -p greenserve readme -- --test-threads 1 rewrites it"
        );
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        for metric in METRICS {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(metric.name.bytes().all(legal), "{}", metric.name);
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\\', '\n']), "{}", metric.name);
            assert_eq!(metric.is_workers(), metric.of_worker(&[0; 64]).is_some(), "{}", metric.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name has one meaning");
    }
}
