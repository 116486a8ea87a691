//! The report as one HTML page that needs nothing but itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::charts::{connections, greenlets, latency, load};
use super::recorded::{Http, Mark, Runtime};
use crate::compare::Machine;
use crate::plot::{STYLE, bytes, escape};

/// The whole page. `explanations` are by the title of the mark.
pub fn page(
    http: Option<&Http>,
    runtime: Option<&Runtime>,
    explanations: &BTreeMap<String, String>,
) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>greenserve beside its peers</title>\n<style>{STYLE}{OWN_STYLE}</style>\n<main>\n\
         <h1>greenserve beside its peers</h1>\n\
         <p class=\"lead\"><b class=\"green\">greenserve</b> and its runtime beside other servers and runtimes, on one machine in one run: \
         one processor for the server, one for the client. <b class=\"threads\">bare</b> is an epoll loop in C that parses nothing: \
         what a server takes more than that it takes for HTTP.</p>\n"
    );
    marks(&mut html, http, runtime, explanations);
    if let Some(http) = http {
        load(&mut html, http);
        connections(&mut html, http);
        latency(&mut html, http);
    }
    if let Some(runtime) = runtime {
        greenlets(&mut html, runtime);
    }
    figures(&mut html, http, runtime);
    how(&mut html, http, runtime);
    html.push_str("</main>\n</html>\n");
    html
}

fn marks(
    html: &mut String,
    http: Option<&Http>,
    runtime: Option<&Runtime>,
    explanations: &BTreeMap<String, String>,
) {
    let all: Vec<&Mark> = http
        .iter()
        .flat_map(|http| &http.marks)
        .chain(runtime.iter().flat_map(|runtime| &runtime.marks))
        .collect();
    let met = all.iter().filter(|mark| mark.met == Some(true)).count();
    let _ = writeln!(
        html,
        "<section>\n<h2>Marks</h2>\n<p>{met} of {} are met.</p>\n<div class=\"scroll\"><table class=\"marks\">\n\
         <thead><tr><th>what</th><th>figure</th><th>mark</th><th></th><th>where the time goes</th></tr></thead>\n<tbody>",
        all.len()
    );
    for mark in all {
        let (class, verdict) = match mark.met {
            Some(true) => ("green", "met"),
            Some(false) => ("failed", "not met"),
            None => ("open", "not judged"),
        };
        let why = explanations.get(&mark.title).filter(|_| mark.met == Some(false));
        let cells = [&mark.title, &mark.figure, &mark.mark].map(|cell| format!("<td>{}</td>", escape(cell)));
        let _ = writeln!(
            html,
            "<tr>{}<td class=\"{class}\">{verdict}</td><td>{}</td></tr>",
            cells.concat(),
            prose(why.map_or("", String::as_str))
        );
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}

/// What is written in the document, as HTML: paragraphs, items of a list and `code`.
fn prose(markdown: &str) -> String {
    let mut text = String::new();
    for line in markdown.lines().map(str::trim) {
        let begins = line.is_empty() || line.starts_with("- ");
        text.push_str(if text.is_empty() {
            ""
        } else if begins {
            "\n"
        } else {
            " "
        });
        text.push_str(line);
    }
    let pieces = text.split('`').enumerate().map(|(number, piece)| match number % 2 {
        0 => escape(piece),
        _ => format!("<code>{}</code>", escape(piece)),
    });
    pieces.collect()
}

fn figures(html: &mut String, http: Option<&Http>, runtime: Option<&Runtime>) {
    html.push_str("<section>\n<h2>All figures</h2>\n");
    for row in http.iter().flat_map(|http| &http.rows) {
        let _ = writeln!(
            html,
            "<details><summary>{}</summary>\n<div class=\"scroll\"><table>",
            escape(&row.title)
        );
        for (number, line) in row.table.iter().enumerate() {
            let tag = if number == 0 { "th" } else { "td" };
            let cells: String = line.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            let _ = writeln!(html, "<tr>{cells}</tr>");
        }
        html.push_str("</table></div></details>\n");
    }
    for row in runtime.iter().flat_map(|runtime| &runtime.rows) {
        let _ = writeln!(
            html,
            "<details><summary>{}</summary>\n<div class=\"scroll\"><table>\n\
             <tr><th>runtime</th><th>{}</th><th>least</th><th>most</th></tr>",
            escape(&row.what),
            escape(&row.unit)
        );
        for measured in &row.results {
            let cells = match (&measured.spread, &measured.failure) {
                (Some(spread), _) => {
                    [spread.median, spread.min, spread.max].map(|it| format!("<td>{it:.2}</td>")).concat()
                }
                (None, failure) => {
                    format!("<td colspan=\"3\">{}</td>", escape(failure.as_deref().unwrap_or("-")))
                }
            };
            let _ = writeln!(html, "<tr><td>{}</td>{cells}</tr>", escape(&measured.runtime));
        }
        html.push_str("</table></div></details>\n");
    }
    html.push_str("</section>\n");
}

fn how(html: &mut String, http: Option<&Http>, runtime: Option<&Runtime>) {
    html.push_str("<section>\n<h2>How it was measured</h2>\n<ul>\n");
    for sentence in http.iter().flat_map(|http| &http.method) {
        let _ = writeln!(html, "<li>{}</li>", escape(sentence));
    }
    if runtime.is_some() {
        html.push_str(
            "<li>Runtimes: each benchmark runs in a process of its own on one processor; times are processor time in user and kernel \
             mode.</li>\n",
        );
    }
    html.push_str("</ul>\n");
    let parts = [
        ("Servers", http.map(|http| (&http.machine, &http.command))),
        ("Runtimes", runtime.map(|runtime| (&runtime.machine, &runtime.command))),
    ];
    for (title, (machine, command)) in parts.into_iter().filter_map(|(title, part)| Some((title, part?))) {
        let Machine { processor, processors, memory, kernel, versions, date } = machine;
        let _ = writeln!(html, "<h3>{title}</h3>\n<dl>");
        for (term, text) in [
            ("Machine", &format!("{processor}, {processors} processors, {} memory", bytes(*memory as f64))),
            ("Kernel", kernel),
            ("Versions", versions),
            ("Date", date),
        ] {
            let _ = writeln!(html, "<dt>{term}</dt><dd>{}</dd>", escape(text));
        }
        let _ = writeln!(html, "<dt>Command</dt><dd><code>{}</code></dd>\n</dl>", escape(command));
    }
    if let Some(http) = http {
        html.push_str("<h3>Peers</h3>\n<dl>\n");
        for peer in &http.versions {
            let text = format!("{}: {}", peer.what, peer.version);
            let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(&peer.server), escape(&text));
        }
        for name in &http.missing {
            let _ = writeln!(html, "<dt>{}</dt><dd>not installed</dd>", escape(name));
        }
        html.push_str("</dl>\n");
    }
    html.push_str("</section>\n");
}

const OWN_STYLE: &str = "
.charts.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); margin-bottom: .75rem; }
table.marks { white-space: normal; } table.marks td { vertical-align: top; text-align: left; min-width: 6rem; } table.marks th { text-align: left; }
table.marks td:nth-child(4) { white-space: nowrap; font-weight: 600; } table.marks td:last-child { color: var(--dim); max-width: 34rem; white-space: pre-line; }
table.marks tr + tr td { border-top: 1px solid var(--rule); } .open { color: var(--dim); }
details { margin: .4rem 0; } summary { cursor: pointer; font-weight: 600; }
";

#[cfg(test)]
pub(super) mod tests {
    use super::super::recorded::{
        AtConnections, Benchmark, Broken, Counted, Growth, Kind, Measured, Quantile, Resident, Row, Server,
        Spread, Stage, Version,
    };
    use super::*;

    fn spread(median: f64) -> Option<Spread> {
        Some(Spread { median, min: 0.5 * median, max: 1.5 * median })
    }

    /// Made up, of the shape that a run records, of numbers that are the same in binary and in decimal.
    pub(in super::super) fn http() -> Http {
        let row = |name: &str, kind, fill: fn(&mut Server, f64)| {
            let servers = [("greenserve", 1.0), ("bare", 0.5), ("go", 2.0)].map(|(name, factor)| {
                let mut server = Server { server: name.into(), ..Server::default() };
                fill(&mut server, factor);
                server
            });
            let table = vec![vec!["server".into(), format!("{name} <each>")], vec!["go".into(), "7".into()]];
            Row { name: name.into(), title: format!("row {name}"), kind, servers: servers.into(), table }
        };
        Http {
            machine: Machine { processor: "A & B".into(), ..Machine::default() },
            command: "marks --quick".into(),
            method: vec!["One & two.".into()],
            versions: vec![Version { server: "go".into(), what: "Go".into(), version: "1".into() }],
            missing: vec!["actix".into()],
            marks: vec![
                Mark {
                    title: "slow one".into(),
                    figure: "7".into(),
                    mark: "at most 6".into(),
                    met: Some(false),
                },
                Mark {
                    title: "good one".into(),
                    figure: "5".into(),
                    mark: "at most 6".into(),
                    met: Some(true),
                },
            ],
            rows: vec![
                row("plaintext", Kind::Load, |server, factor| server.cpu_of_bare = spread(factor)),
                row("connections", Kind::Connections, |server, factor| {
                    server.by_connections = [1, 1000]
                        .map(|connections| AtConnections {
                            connections,
                            requests_per_second: Some(65_536.0 / factor),
                            cpu_seconds_per_request: Some(factor / 65_536.0),
                            error: None,
                        })
                        .into();
                }),
                row("latency", Kind::Latency, |server, factor| {
                    server.p99_seconds = spread(factor / 1024.0);
                    server.distribution = [0.5, 0.9375]
                        .map(|quantile| Quantile { quantile, seconds: factor * quantile })
                        .into();
                }),
                row("idle", Kind::Memory, |server, factor| {
                    server.bytes_per_connection = Some(500.0 * factor);
                    server.resident =
                        [1, 1000].map(|connections| Resident { connections, bytes: 1 << 20 }).into();
                }),
            ],
            counts: vec![Counted {
                server: "go".into(),
                error: Some("no strace".into()),
                ..Counted::default()
            }],
        }
    }

    pub(in super::super) fn runtime() -> Runtime {
        let growth = |runtime: &str, ours, broken| {
            let stages = [1000, 5000].map(|count| Stage { count, seconds: 0.5, bytes: 4000.0 }).into();
            Growth { runtime: runtime.into(), ours, stages, broken }
        };
        let measured = |runtime: &str, ours, spread: Option<Spread>| {
            let failure = spread.is_none().then(|| "fails: out of luck".to_owned());
            Measured { runtime: runtime.into(), ours, spread, failure }
        };
        Runtime {
            command: "runtime_marks".into(),
            marks: vec![Mark {
                title: "switch, ns".into(),
                mark: "below all peers".into(),
                ..Mark::default()
            }],
            rows: vec![Benchmark {
                what: "switch, ns".into(),
                bench: "switch".into(),
                unit: "ns".into(),
                results: vec![measured("this one", true, spread(20.0)), measured("may 0.3", false, None)],
                ..Benchmark::default()
            }],
            growth: vec![
                growth("this one", true, None),
                growth("may 0.3", false, Some(Broken { count: 50_000, why: "no <memory>".into() })),
            ],
            ..Runtime::default()
        }
    }

    #[test]
    fn the_page_has_all_charts_and_needs_no_other_file() {
        let explanations = BTreeMap::from([("slow one".to_owned(), "In the <kernel>.".to_owned())]);
        let html = page(Some(&http()), Some(&runtime()), &explanations);
        // throughput, processor time, memory, latency, spawn time, memory of greenlets
        assert_eq!(html.matches("<svg").count(), 6);
        assert_eq!(html.matches("class=\"line green ours\"").count(), 6, "ours is in each");
        assert_eq!(html.matches("class=\"bars\"").count(), 1 + 1 + 3 + 1);
        for told in [
            "1 of 3 are met",
            "In the &lt;kernel&gt;.",
            "One &amp; two.",
            "A &amp; B",
            "plaintext &lt;each&gt;",
        ] {
            assert!(html.contains(told), "{told}");
        }
        assert!(html.contains("may 0.3 ✕") && html.contains("✕ may 0.3 with 50,000: no &lt;memory&gt;"));
        for figure in html.split("<figure>").skip(1) {
            assert!(figure.contains("er is better"), "{figure}");
        }
        for foreign in ["http://", "https://", "src=", "href=", "<script"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_is_told_by_hand_reads_as_it_is_meant() {
        assert_eq!(
            prose("One\nline & `a <call>`.\n\n- item\n- two"),
            "One line &amp; <code>a &lt;call&gt;</code>.\n\n- item\n- two"
        );
        assert_eq!(prose(""), "");
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let html = page(None, Some(&runtime()), &BTreeMap::new());
        assert!(html.contains("Green threads") && !html.contains("Connections"));
    }
}
