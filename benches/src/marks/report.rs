//! The results as text for a terminal, as Markdown for the repository, and as what is recorded for the report.

use std::fmt::Write;

use super::figures::{Cell, Results, micros};
use super::rows::{CONNECTIONS, Row, Way};
use crate::plot::thousands;
use crate::report::{self, AtConnections, Counted, Http, Kind, Mark, Resident, Server, Version};

/// For a terminal: a table for each row of the marks, then the marks.
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    for row in results.rows() {
        let table = table(results, row);
        let _ = writeln!(text, "{}", row.title);
        let mut widths = vec![0; table[0].len()];
        for line in &table {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &table {
            let mut out = String::from(" ");
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(out, " {cell:<width$}"),
                    _ if column + 1 == line.len() => write!(out, "  {cell}"),
                    _ => write!(out, "  {cell:>width$}"),
                };
            }
            let _ = writeln!(text, "{}", out.trim_end());
        }
        text.push('\n');
    }
    for verdict in results.verdicts() {
        let met = if verdict.met == Some(true) { "met    " } else { "NOT MET" };
        let _ = writeln!(text, "{met}  {}: {} (mark: {})", verdict.title, verdict.figure, verdict.mark);
    }
    text
}

/// For the repository: the marks, each row's figures, and how all was measured.
pub fn markdown(results: &Results) -> String {
    let mut text = String::from("### Marks\n\n| what | figure | mark | |\n| --- | --- | --- | --- |\n");
    for Mark { title, figure, mark, met } in results.verdicts() {
        let met = if met == Some(true) { "met" } else { "**not met**" };
        let _ = writeln!(text, "| {title} | {figure} | {mark} | {met} |");
    }
    let _ = write!(text, "\n{}\n\n### Figures\n", report::WHERE);
    for row in results.rows() {
        let _ = writeln!(text, "\n{}:\n", row.title);
        for (number, line) in table(results, row).iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(line.len()));
            }
        }
        let _ = writeln!(text, "\n{}", report::WHERE);
    }
    if !results.counts.is_empty() {
        text.push_str(
            "\nper keep-alive request to /plaintext, counted by callgrind and memcheck (one connection) and strace (16 connections):\n\n\
             | server | instructions | allocations | system calls |\n| --- | --- | --- | --- |\n",
        );
        for (server, counts) in &results.counts {
            let _ = match counts {
                Ok(counts) => writeln!(
                    text,
                    "| {server} | {:.0} | {:.2} | {:.2}: {} |",
                    counts.instructions,
                    counts.allocations,
                    counts.all_system_calls(),
                    counts.system_calls_in_words()
                ),
                Err(error) => writeln!(text, "| {server} | {error} | | |"),
            };
        }
    }
    if !results.generators.is_empty() {
        text.push_str(
            "\n### The load generators\n\nEach against bare, 64 kept connections.\n\n\
             | generator | requests/s | its CPU each | bare's CPU each |\n| --- | --- | --- | --- |\n",
        );
        for generator in &results.generators {
            let _ = writeln!(
                text,
                "| {} | {:.0} | {} | {} |",
                generator.name,
                generator.rate,
                micros(generator.cpu),
                micros(generator.server_cpu)
            );
        }
    }
    text.push_str("\n### How it was measured\n\n");
    for sentence in &results.method {
        let _ = writeln!(text, "- {sentence}");
    }
    let machine = &results.machine;
    let _ = write!(
        text,
        "\nMachine: {}, {} processors, {:.1} GB. Kernel: {}. {}. {}. Command: `{}`.\n\n",
        machine.processor,
        machine.processors,
        machine.memory as f64 / 1e9,
        machine.kernel,
        machine.versions,
        machine.date,
        results.command
    );
    for (peer, version) in &results.versions {
        let _ = writeln!(text, "- {}: {} ({version})", peer.name, peer.what);
    }
    for name in &results.missing {
        let _ = writeln!(text, "- {name}: not installed");
    }
    text
}

/// Everything, for the report and other programs.
pub fn record(results: &Results) -> Http {
    let server = |cell: &Cell| Server {
        server: cell.peer.to_owned(),
        cpu_seconds_per_request: cell.of(|sample| sample.cpu),
        cpu_of_bare: results.ratio(cell),
        requests_per_second: cell.of(|sample| sample.rate),
        server_busy: cell.of(|sample| sample.server_busy),
        client_busy: cell.of(|sample| sample.client_busy),
        asked_rate: cell.asked_rate,
        p50_seconds: cell.latency(|latency| latency.p50),
        p99_seconds: cell.latency(|latency| latency.p99),
        p999_seconds: cell.latency(|latency| latency.p999),
        distribution: cell.distribution.as_ref().map(report::distribution).unwrap_or_default(),
        by_connections: cell
            .points
            .iter()
            .map(|point| AtConnections {
                connections: point.connections,
                requests_per_second: point.outcome.as_ref().ok().map(|sample| sample.rate),
                cpu_seconds_per_request: point.outcome.as_ref().ok().map(|sample| sample.cpu),
                error: point.outcome.as_ref().err().cloned(),
            })
            .collect(),
        bytes_per_connection: cell.bytes,
        resident: cell.resident.iter().map(|&(connections, bytes)| Resident { connections, bytes }).collect(),
        errors: cell.errors,
        error: cell.error.clone(),
    };
    let row = |row: Row| report::Row {
        name: row.name.to_owned(),
        title: row.title.to_owned(),
        kind: match row.way {
            Way::Keep { .. } | Way::Close { .. } => Kind::Load,
            Way::Connections => Kind::Connections,
            Way::Latency { .. } => Kind::Latency,
            Way::Idle { .. } | Way::Busy { .. } => Kind::Memory,
        },
        servers: results.ranked(row).into_iter().map(server).collect(),
        table: table(results, row),
    };
    Http {
        machine: results.machine.clone(),
        command: results.command.clone(),
        method: results.method.clone(),
        versions: results
            .versions
            .iter()
            .map(|(peer, version)| Version {
                server: peer.name.to_owned(),
                what: peer.what.to_owned(),
                version: version.clone(),
            })
            .collect(),
        missing: results.missing.iter().map(|&name| name.to_owned()).collect(),
        marks: results.verdicts(),
        rows: results.rows().into_iter().map(row).collect(),
        counts: results
            .counts
            .iter()
            .map(|(server, counts)| match counts {
                Ok(counts) => Counted {
                    server: (*server).to_owned(),
                    instructions: Some(counts.instructions),
                    allocations: Some(counts.allocations),
                    system_calls: counts.system_calls.clone(),
                    error: None,
                },
                Err(error) => {
                    Counted { server: (*server).to_owned(), error: Some(error.clone()), ..Counted::default() }
                }
            })
            .collect(),
    }
}

/// A row's table: the head and a line for each server.
fn table(results: &Results, row: Row) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
    let numbers: Vec<String> = connections(results, row).into_iter().map(thousands).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let by_connections = [&["server"], &numbers[..]].concat();
    let head: &[&str] = match row.way {
        Way::Keep { .. } | Way::Close { .. } => &[
            "server",
            "CPU of bare's",
            "CPU each",
            "requests/s",
            "min–max",
            "server busy",
            "client busy",
            "failed",
        ],
        Way::Latency { .. } => {
            &["server", "requests/s", "p50", "p99", "min–max", "p99.9", "min–max", "failed"]
        }
        Way::Connections => &by_connections,
        Way::Idle { .. } | Way::Busy { .. } => &["server", "bytes each", ""],
    };
    let mut lines = vec![head.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()];
    for cell in results.ranked(row) {
        let mut line = vec![cell.peer.to_owned()];
        match row.way {
            Way::Keep { .. } | Way::Close { .. } => {
                line.push(results.ratio(cell).map_or_else(none, |ratio| {
                    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max)
                }));
                line.push(cell.of(|sample| sample.cpu).map_or_else(none, |cpu| micros(cpu.median)));
                let rate = cell.of(|sample| sample.rate);
                line.push(rate.map_or_else(none, |rate| format!("{:.0}", rate.median)));
                line.push(rate.map_or_else(none, |rate| format!("{:.0}–{:.0}", rate.min, rate.max)));
                for busy in [cell.of(|sample| sample.server_busy), cell.of(|sample| sample.client_busy)] {
                    line.push(busy.map_or_else(none, |busy| format!("{:.0} %", 100.0 * busy.median)));
                }
                line.push(failures(cell));
            }
            Way::Latency { .. } => {
                line.push(format!("{:.0}", cell.asked_rate));
                line.push(cell.latency(|it| it.p50).map_or_else(none, |p50| micros(p50.median)));
                for spread in [cell.latency(|it| it.p99), cell.latency(|it| it.p999)] {
                    line.push(spread.map_or_else(none, |spread| micros(spread.median)));
                    line.push(spread.map_or_else(none, |spread| {
                        format!("{}–{}", micros(spread.min), micros(spread.max))
                    }));
                }
                line.push(failures(cell));
            }
            Way::Connections => line.extend(connections(results, row).into_iter().map(|number| {
                match cell.points.iter().find(|point| point.connections == number).map(|it| &it.outcome) {
                    Some(Ok(sample)) => format!("{:.0}/s, {}", sample.rate, micros(sample.cpu)),
                    Some(Err(error)) => error.clone(),
                    None => none(),
                }
            })),
            Way::Idle { .. } | Way::Busy { .. } => {
                line.push(cell.bytes.map_or_else(none, |bytes| format!("{bytes:.0}")));
                line.push(cell.error.clone().unwrap_or_default());
            }
        }
        lines.push(line);
    }
    lines
}

/// The numbers of connections that a row was measured with.
fn connections(results: &Results, row: Row) -> Vec<usize> {
    let measured = |number: &usize| {
        results.ranked(row).iter().any(|cell| cell.points.iter().any(|point| point.connections == *number))
    };
    CONNECTIONS.iter().copied().filter(measured).collect()
}

fn failures(cell: &Cell) -> String {
    match &cell.error {
        Some(error) => format!("{}: {error}", cell.errors),
        None => cell.errors.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::made_up;
    use super::*;

    #[test]
    fn every_report_tells_every_verdict() {
        let results = made_up();
        let record = record(&results);
        assert_eq!(record.rows.len(), results.rows().len());
        assert_eq!(record.marks, results.verdicts());
        for Mark { title, figure, mark, .. } in results.verdicts() {
            assert!(text(&results).contains(&format!("{figure} (mark: {mark})")), "{title}");
            assert!(markdown(&results).contains(&format!("| {title} | {figure} | {mark} |")));
        }
        assert!(markdown(&results).contains("- actix: not installed"));
    }

    #[test]
    fn what_the_charts_show_is_recorded() {
        let record = record(&made_up());
        let ours = |name: &str| {
            let row = record.rows.iter().find(|row| row.name == name).unwrap();
            row.servers.iter().find(|server| server.server == "greenserve").unwrap()
        };
        let points = &ours("connections").by_connections;
        assert!(points[0].requests_per_second.is_some() && points[1].error.as_deref() == Some("no answers"));
        assert_eq!(ours("latency").distribution[0].quantile, 0.5);
        assert_eq!(ours("idle-19000").resident[1], Resident { connections: 10_000, bytes: 6 << 20 });
    }

    #[test]
    fn a_sweep_is_a_column_for_each_number_of_connections() {
        let results = made_up();
        let row = *results.rows().iter().find(|row| row.way == Way::Connections).unwrap();
        let table = table(&results, row);
        assert_eq!(table[0], ["server", "1", "10,000"]);
        assert_eq!(table[1], ["bare", "200000/s, 5.00 µs", "no answers"]);
    }
}
