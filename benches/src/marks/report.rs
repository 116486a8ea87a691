//! The results as text for a terminal, as Markdown for the repository and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::figures::{Cell, Results, Spread, Verdict, micros};
use super::rows::{Row, Way};

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
        let met = if verdict.met { "met    " } else { "NOT MET" };
        let _ = writeln!(text, "{met}  {}: {} (mark: {})", verdict.title, verdict.figure, verdict.mark);
    }
    text
}

/// For the repository: the marks, each row's figures, and how all was measured.
pub fn markdown(results: &Results) -> String {
    let mut text = String::from("### Marks\n\n| what | figure | mark | |\n| --- | --- | --- | --- |\n");
    for Verdict { title, figure, mark, met } in results.verdicts() {
        let met = if met { "met" } else { "**not met**" };
        let _ = writeln!(text, "| {title} | {figure} | {mark} | {met} |");
    }
    text.push_str("\n### Figures\n");
    for row in results.rows() {
        let _ = writeln!(text, "\n{}:\n", row.title);
        for (number, line) in table(results, row).iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(line.len()));
            }
        }
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

/// Puts `part` between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a document, at its end if they aren't
/// there. All else in it stays.
pub fn splice(document: &str, name: &str, part: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let (before, after) = match document.split_once(&begin) {
        Some((before, rest)) => (before.to_owned(), rest.split_once(&end).map_or("", |(_, after)| after)),
        None if document.is_empty() => (String::new(), ""),
        None => (format!("{}\n\n", document.trim_end()), ""),
    };
    format!("{before}{begin}{}\n{end}{after}", part.trim_end())
}

/// Everything, for programs.
pub fn json(results: &Results) -> String {
    let spread = |spread: Option<Spread>| match spread {
        Some(spread) => json!({"median": spread.median, "min": spread.least, "max": spread.most}),
        None => Value::Null,
    };
    let rows: Vec<_> = results
        .rows()
        .into_iter()
        .map(|row| {
            let servers: Vec<_> = results
                .ranked(row)
                .into_iter()
                .map(|cell| {
                    json!({
                        "server": cell.peer,
                        "cpu_seconds_per_request": spread(cell.of(|sample| sample.cpu)),
                        "cpu_of_bare": spread(results.ratio(cell)),
                        "requests_per_second": spread(cell.of(|sample| sample.rate)),
                        "server_busy": spread(cell.of(|sample| sample.server_busy)),
                        "client_busy": spread(cell.of(|sample| sample.client_busy)),
                        "asked_rate": cell.asked_rate,
                        "p50_seconds": spread(cell.latency(|latency| latency.p50)),
                        "p99_seconds": spread(cell.latency(|latency| latency.p99)),
                        "p999_seconds": spread(cell.latency(|latency| latency.p999)),
                        "bytes_per_connection": cell.bytes,
                        "errors": cell.errors,
                        "error": cell.error,
                    })
                })
                .collect();
            json!({"name": row.name, "title": row.title, "servers": servers})
        })
        .collect();
    let machine = &results.machine;
    let marks: Vec<_> = results
        .verdicts()
        .into_iter()
        .map(|it| json!({"title": it.title, "figure": it.figure, "mark": it.mark, "met": it.met}))
        .collect();
    let counts: Vec<_> = results
        .counts
        .iter()
        .map(|(server, counts)| match counts {
            Ok(counts) => json!({
                "server": server,
                "instructions": counts.instructions,
                "allocations": counts.allocations,
                "system_calls": counts.system_calls,
            }),
            Err(error) => json!({"server": server, "error": error}),
        })
        .collect();
    let all = json!({
        "date": machine.date,
        "machine": {"processor": machine.processor, "processors": machine.processors, "memory": machine.memory, "kernel": machine.kernel},
        "versions": results.versions.iter().map(|(peer, version)| json!({"server": peer.name, "version": version})).collect::<Vec<_>>(),
        "missing": results.missing,
        "command": results.command,
        "marks": marks,
        "rows": rows,
        "counts": counts,
    });
    format!("{all:#}\n")
}

/// A row's table: the head and a line for each server.
pub(super) fn table(results: &Results, row: Row) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
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
        Way::Idle { .. } | Way::Busy { .. } => &["server", "bytes each", ""],
    };
    let mut lines = vec![head.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()];
    for cell in results.ranked(row) {
        let mut line = vec![cell.peer.to_owned()];
        match row.way {
            Way::Keep { .. } | Way::Close { .. } => {
                line.push(results.ratio(cell).map_or_else(none, |ratio| {
                    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most)
                }));
                line.push(cell.of(|sample| sample.cpu).map_or_else(none, |cpu| micros(cpu.median)));
                let rate = cell.of(|sample| sample.rate);
                line.push(rate.map_or_else(none, |rate| format!("{:.0}", rate.median)));
                line.push(rate.map_or_else(none, |rate| format!("{:.0}–{:.0}", rate.least, rate.most)));
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
                        format!("{}–{}", micros(spread.least), micros(spread.most))
                    }));
                }
                line.push(failures(cell));
            }
            Way::Idle { .. } | Way::Busy { .. } => {
                line.push(cell.bytes.map_or_else(none, |bytes| format!("{bytes:.0}")));
                line.push(cell.error.clone().unwrap_or_default());
            }
        }
        lines.push(line);
    }
    lines
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
        let parsed: Value = serde_json::from_str(&json(&results)).unwrap();
        assert_eq!(parsed["rows"].as_array().unwrap().len(), results.rows().len());
        assert_eq!(parsed["marks"].as_array().unwrap().len(), results.verdicts().len());
        for Verdict { title, figure, mark, .. } in results.verdicts() {
            assert!(text(&results).contains(&format!("{figure} (mark: {mark})")), "{title}");
            assert!(markdown(&results).contains(&format!("| {title} | {figure} | {mark} |")));
        }
        assert!(markdown(&results).contains("- actix: not installed"));
    }

    #[test]
    fn a_part_is_replaced_and_the_rest_stays() {
        let first = splice("# Results\n\nBy hand.\n", "marks", "one\n");
        assert_eq!(first, "# Results\n\nBy hand.\n\n<!-- marks: begin -->\none\n<!-- marks: end -->\n");
        let more = first.clone() + "More by hand.\n";
        assert_eq!(splice(&more, "marks", "two"), more.replace("one", "two"));
    }
}
