//! The results as text, for a terminal.

use super::measurement::{Load, Measurement};
use crate::plot::{bytes, count, seconds};

/// One line for each measurement, grouped as they come.
pub fn table(measurements: &[Measurement]) -> String {
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(measurements.iter().map(row));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (number, (row, measurement)) in
        rows.iter().zip(std::iter::once(None).chain(measurements.iter().map(Some))).enumerate()
    {
        let new_group = number > 1 && measurement.is_some_and(|m| !same_group(m, &measurements[number - 2]));
        if new_group {
            text.push('\n');
        }
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                1 => line.push_str(&format!("  {cell:<width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if let Some(note) = measurement.and_then(note) {
            text.push_str(&format!("    {note}\n"));
        }
    }
    text
}

/// Whether two measurements are about the same path and load, so that their figures compare.
pub(super) fn same_group(a: &Measurement, b: &Measurement) -> bool {
    a.target == b.target && a.load == b.load && a.connections == b.connections
}

pub(super) const HEAD: [&str; 12] = [
    "path",
    "server",
    "connections",
    "requests/s",
    "p50",
    "p99",
    "p99.9",
    "CPU/request",
    "threads",
    "resident",
    "per connection",
    "failed",
];

/// The cells of a measurement, under [`HEAD`].
pub(super) fn row(m: &Measurement) -> [String; HEAD.len()] {
    let none = || "-".to_owned();
    let path = match m.load {
        Load::Closed => m.target.clone(),
        Load::Open(rate) => format!("{} at {}/s", m.target, count(rate)),
    };
    let mut cells = [const { String::new() }; HEAD.len()].map(|_| none());
    cells[0] = path;
    cells[1] = m.kind.to_string();
    cells[2] = m.connections.to_string();
    if let Ok(figures) = &m.outcome {
        cells[3] = count(figures.rate);
        if let Some(latency) = figures.latency {
            cells[4] = seconds(latency.p50.as_secs_f64());
            cells[5] = seconds(latency.p99.as_secs_f64());
            cells[6] = seconds(latency.p999.as_secs_f64());
        }
        cells[7] = figures.cpu_per_request.map_or_else(none, |cpu| seconds(cpu.as_secs_f64()));
        cells[8] = figures.threads.to_string();
        cells[9] = bytes(figures.resident as f64);
        cells[10] = bytes(figures.resident_per_connection(m.connections) as f64);
        cells[11] = figures.failures.iter().map(|(_, times)| times).sum::<u64>().to_string();
    }
    cells
}

/// What went wrong, in words.
pub(super) fn note(m: &Measurement) -> Option<String> {
    match &m.outcome {
        Err(error) => Some(format!("not measured: {error}")),
        Ok(figures) if figures.failures.is_empty() => None,
        Ok(figures) => {
            let kinds: Vec<_> =
                figures.failures.iter().map(|(kind, times)| format!("{times} × {kind}")).collect();
            Some(format!("failed: {}", kinds.join(", ")))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::measurement::{Figures, Kind};
    use super::*;
    use crate::load::Percentiles;

    /// Made-up results of the shape that a run gives.
    pub(in super::super) fn made_up() -> Vec<Measurement> {
        let mut all = Vec::new();
        for target in ["/sleep?ms=100", "/plaintext"] {
            for connections in [10_usize, 100, 1000] {
                for kind in [Kind::Green, Kind::Threads] {
                    let green = kind == Kind::Green;
                    let factor = if green { 1.0 } else { 2.0 };
                    let ms = |ms: f64| Duration::from_secs_f64(ms * factor / 1000.0);
                    let figures = Figures {
                        rate: connections as f64 * 9.9 / factor,
                        latency: Some(Percentiles {
                            p50: ms(100.0),
                            p99: ms(102.0),
                            p999: ms(110.0),
                            max: ms(120.0),
                        }),
                        threads: if green { 1 } else { connections as u64 + 1 },
                        resident: 5_000_000 + connections as u64 * if green { 8_000 } else { 20_000 },
                        resident_idle: 5_000_000,
                        cpu_per_request: Some(Duration::from_micros(if green { 5 } else { 11 })),
                        failures: Vec::new(),
                    };
                    all.push(Measurement {
                        kind,
                        target: target.into(),
                        connections,
                        load: Load::Closed,
                        outcome: Ok(figures),
                    });
                }
            }
        }
        all
    }

    #[test]
    fn figures_stand_under_their_heads_and_failures_beneath_their_line() {
        let mut all = made_up();
        all.truncate(4);
        if let Ok(figures) = &mut all[1].outcome {
            figures.failures = vec![("timed out".into(), 2), ("status 503".into(), 3)];
        }
        all[3].outcome = Err("the server ended at once".into());
        all[2].load = Load::Open(5000.0);
        let text = table(&all);
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "path                    server         connections  requests/s     p50     p99   p99.9  CPU/request  threads  resident  per connection  failed",
            "/sleep?ms=100           green threads           10          99  100 ms  102 ms  110 ms         5 µs        1   5.08 MB            8 kB       0",
            "/sleep?ms=100           OS threads              10        49.5  200 ms  204 ms  220 ms        11 µs       11    5.2 MB           20 kB       5",
            "    failed: 2 × timed out, 3 × status 503",
            "",
            "/sleep?ms=100 at 5 k/s  green threads          100         990  100 ms  102 ms  110 ms         5 µs        1    5.8 MB            8 kB       0",
            "",
            "/sleep?ms=100           OS threads             100           -       -       -       -            -        -         -               -       -",
            "    not measured: the server ended at once",
        ];
        assert_eq!(lines, expected, "\n{text}");
    }
}
