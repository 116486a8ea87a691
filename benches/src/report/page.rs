//! The report as one HTML page that needs nothing but itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::recorded::{Growth, Http, Kind, Mark, Row, Runtime, Server, Stage};
use crate::compare::Machine;
use crate::plot::{Bar, Chart, STYLE, Series, Sign, WIDE, bars, bytes, count, escape, seconds, thousands};

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
            escape(why.map_or("", String::as_str))
        );
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}

fn load(html: &mut String, http: &Http) {
    html.push_str(
        "<section>\n<h2>Processor time per request</h2>\n<p>As a multiple of bare's in the same round. It holds still on a noisy \
         machine, where requests per second do not. A bar with a torn end is longer than it is drawn.</p>\n<div class=\"charts\">\n",
    );
    for row in http.rows.iter().filter(|row| row.kind == Kind::Load) {
        let value = |server: &Server| {
            let ratio = server.cpu_of_bare?.median;
            Some((ratio, format!("{ratio:.2}")))
        };
        row_of_bars(html, row, "× bare's processor time ▾ lower is better", value);
    }
    html.push_str("</div>\n</section>\n");
}

fn connections(html: &mut String, http: &Http) {
    html.push_str("<section>\n<h2>Connections</h2>\n");
    let swept = http.rows.iter().find(|row| row.kind == Kind::Connections);
    // the row with the most connections has been looked at all the way there
    let longest = |row: &&Row| row.servers.iter().map(|server| server.resident.len()).max();
    let held = http.rows.iter().filter(|row| row.kind == Kind::Memory).max_by_key(longest);
    html.push_str("<div class=\"charts wide\">\n");
    if let Some(row) = swept {
        let lines = |value: fn(&super::AtConnections) -> Option<f64>, write: fn(f64) -> String| {
            let of = |server: &Server| {
                let name = &server.server;
                let points = server.by_connections.iter().filter_map(|at| {
                    Some((at.connections, value(at)?, format!("{name}: {}", write(value(at)?))))
                });
                let broken = server.by_connections.iter().find_map(|at| {
                    Some(format!("{name}, {} connections: {}", thousands(at.connections), at.error.as_ref()?))
                });
                (points.collect(), broken)
            };
            over(row.servers.iter().map(|server| (server.server.as_str(), of(server))), write, CONNECTIONS)
        };
        let title = format!("Throughput: {}", row.title);
        figure(
            html,
            &title,
            "requests per second ▴ higher is better",
            &lines(|at| at.requests_per_second, count),
        );
        let title = format!("Processor time: {}", row.title);
        let chart = lines(|at| at.cpu_seconds_per_request, seconds);
        figure(html, &title, "of the server, for each request ▾ lower is better", &chart);
    }
    if let Some(row) = held {
        let of = |server: &Server| {
            let name = &server.server;
            let points = server
                .resident
                .iter()
                .map(|at| (at.connections, at.bytes as f64, format!("{name}: {}", bytes(at.bytes as f64))));
            (points.collect(), server.error.clone().map(|error| format!("{name}: {error}")))
        };
        let servers = row.servers.iter().map(|server| (server.server.as_str(), of(server)));
        let title = "Memory: kept connections, each idle after one request";
        let chart = over(servers, bytes, CONNECTIONS);
        figure(html, title, "resident, all processes of the server together ▾ lower is better", &chart);
    }
    html.push_str("</div>\n<div class=\"charts\">\n");
    for row in http.rows.iter().filter(|row| row.kind == Kind::Memory) {
        let value = |server: &Server| {
            server.bytes_per_connection.map(|each| (each, thousands(each.max(0.0) as usize)))
        };
        row_of_bars(html, row, "resident bytes added by each ▾ lower is better", value);
    }
    html.push_str("</div>\n</section>\n");
}

fn latency(html: &mut String, http: &Http) {
    html.push_str(
        "<section>\n<h2>Latency</h2>\n<p>Requests are due at fixed moments, at a share of each server's own peak rate, and a latency \
         counts from the moment its request was due: a stall is felt by all whom it keeps waiting.</p>\n",
    );
    for row in http.rows.iter().filter(|row| row.kind == Kind::Latency) {
        html.push_str("<div class=\"charts wide\">\n");
        let series = row.servers.iter().map(|server| {
            let points = server.distribution.iter().map(|at| {
                let percent = 100.0 * at.quantile;
                let text = format!("{}, {percent:.4} %: {}", server.server, seconds(at.seconds));
                (beyond(at.quantile), at.seconds, text)
            });
            let error = server.error.as_ref().filter(|_| server.distribution.is_empty());
            line(&server.server, Sign::None, points.collect(), error.cloned())
        });
        let ticks = [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
        let chart = Chart {
            title: &row.title,
            size: WIDE,
            x_title: "share of the requests that took at most so long",
            x_ticks: ticks.map(|(quantile, text)| (beyond(quantile), text.to_owned())).into(),
            write: seconds,
            series: ours_last(series.collect()),
        };
        figure(html, &row.title, "latency, all rounds together ▾ lower is better", &chart);
        html.push_str("</div>\n<div class=\"charts\">\n");
        type Value = fn(&Server) -> Option<f64>;
        let shares: [(&str, Value); 3] = [
            ("half of the requests", |server| Some(server.p50_seconds?.median)),
            ("99 % of the requests", |server| Some(server.p99_seconds?.median)),
            ("99.9 % of the requests", |server| Some(server.p999_seconds?.median)),
        ];
        for (title, value) in shares {
            let row = Row { title: format!("{title} took at most"), ..row.clone() };
            let value = |server: &Server| value(server).map(|latency| (latency, seconds(latency)));
            row_of_bars(html, &row, "median of the rounds ▾ lower is better", value);
        }
        html.push_str("</div>\n");
    }
    html.push_str("</section>\n");
}

fn greenlets(html: &mut String, runtime: &Runtime) {
    html.push_str(
        "<section>\n<h2>Green threads</h2>\n<p>Parked in a sleep, more and more at once, each number in a process of its own. A runtime \
         that ends with ✕ can't have more.</p>\n<div class=\"charts wide\">\n",
    );
    let mut draw = |title: &str, unit: &str, value: fn(&Stage) -> f64, write: fn(f64) -> String| {
        let of = |growth: &Growth| {
            let name = &growth.runtime;
            let points = growth.stages.iter().map(|stage| {
                let all = seconds(stage.seconds);
                let text = format!("{name}: {} each; {all} in all", write(value(stage)));
                (stage.count, value(stage), text)
            });
            let broken = growth.broken.as_ref();
            let broken = broken.map(|at| format!("{name} fails with {}: {}", thousands(at.count), at.why));
            (points.collect(), broken)
        };
        let lines = runtime.growth.iter().map(|growth| (growth.runtime.as_str(), of(growth)));
        figure(html, title, unit, &over(lines, write, "greenlets parked at once"));
    };
    draw(
        "Spawn time against number of greenlets",
        "processor time until all are parked, for each ▾ lower is better",
        |stage| stage.seconds / stage.count as f64,
        seconds,
    );
    draw(
        "Memory against number of greenlets",
        "resident bytes added by each ▾ lower is better",
        |stage| stage.bytes,
        bytes,
    );
    html.push_str("</div>\n");
    for Growth { runtime, broken, .. } in &runtime.growth {
        if let Some(broken) = broken {
            let (count, why) = (thousands(broken.count), escape(&broken.why));
            let _ = writeln!(html, "<p class=\"failed\">✕ {} with {count}: {why}</p>", escape(runtime));
        }
    }
    html.push_str("<div class=\"charts\">\n");
    for row in &runtime.rows {
        let all: Vec<_> = row
            .results
            .iter()
            .filter_map(|measured| {
                let median = measured.spread?.median;
                let text = if median < 100.0 { format!("{median:.2}") } else { thousands(median as usize) };
                Some(Bar { name: &measured.runtime, class: look(&measured.runtime), value: median, text })
            })
            .collect();
        let unit = format!("{} ▾ lower is better", if row.unit.is_empty() { "number" } else { &row.unit });
        html.push_str(&bars(&row.what, &unit, &ranked(all)));
    }
    html.push_str("</div>\n</section>\n");
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

const CONNECTIONS: &str = "connections";

/// A chart over a number (of connections, of greenlets), on a logarithmic axis.
fn over<'a>(
    lines: impl Iterator<Item = (&'a str, (Vec<(usize, f64, String)>, Option<String>))>,
    write: fn(f64) -> String,
    x_title: &'a str,
) -> Chart<'a> {
    let position = |number: usize| (number.max(1) as f64).log10();
    let lines: Vec<_> = lines.collect();
    let mut numbers: Vec<usize> =
        lines.iter().flat_map(|(_, (points, _))| points.iter().map(|it| it.0)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let series = lines.into_iter().map(|(name, (points, broken))| {
        let points = points.into_iter().map(|(number, value, text)| {
            (position(number), value, format!("{} {x_title}, {text}", thousands(number)))
        });
        line(name, Sign::Round, points.collect(), broken)
    });
    Chart {
        title: x_title,
        size: WIDE,
        x_title,
        series: ours_last(series.collect()),
        x_ticks: numbers.into_iter().map(|number| (position(number), count(number as f64))).collect(),
        write,
    }
}

fn line(name: &str, sign: Sign, points: Vec<(f64, f64, String)>, broken: Option<String>) -> Series<'_> {
    Series { name, class: stroke(name), sign, points, broken }
}

fn figure(html: &mut String, title: &str, unit: &str, chart: &Chart<'_>) {
    let (title, unit) = (escape(title), escape(unit));
    let _ = writeln!(
        html,
        "<figure><figcaption>{title}</figcaption>\n<p class=\"unit\">{unit}</p>\n{}</figure>",
        chart.svg()
    );
}

fn row_of_bars(html: &mut String, row: &Row, unit: &str, value: impl Fn(&Server) -> Option<(f64, String)>) {
    let all = row.servers.iter().filter_map(|server| {
        let (value, text) = value(server)?;
        Some(Bar { name: &server.server, class: look(&server.server), value, text })
    });
    html.push_str(&bars(&row.title, unit, &ranked(all.collect())));
}

fn ranked(mut bars: Vec<Bar<'_>>) -> Vec<Bar<'_>> {
    bars.sort_by(|a, b| a.value.total_cmp(&b.value));
    bars
}

/// On top of the others.
fn ours_last(mut series: Vec<Series<'_>>) -> Vec<Series<'_>> {
    series.sort_by_key(|series| look(series.name) == OURS);
    series
}

/// Where a quantile stands: equal steps for 90, 99, 99.9 %.
fn beyond(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

const OURS: &str = "green";

/// The colour of a server or runtime: the same in all charts, and for the two sides of one project.
fn look(name: &str) -> &'static str {
    match name.to_ascii_lowercase().split(' ').next().unwrap_or_default() {
        "greenserve" | "this" => OURS,
        "bare" => "threads",
        "hyper" | "tokio" => "p1",
        "axum" => "p2",
        "actix" | "corosensei" => "p3",
        "may" => "p4",
        "nginx" | "std" | "thread" => "p5",
        "go" => "p6",
        "bjoern" => "p7",
        "granian" => "p8",
        "gevent" => "p9",
        "gunicorn-gevent" | "greenlet" => "p10",
        "gunicorn-gthread" => "p11",
        "uwsgi" => "p12",
        _ => "p5",
    }
}

/// Colour and stroke of a line: ours is thicker than all, and those in Python are dashed.
fn stroke(name: &str) -> &'static str {
    match look(name) {
        OURS => "green ours",
        "p7" => "p7 dashed",
        "p8" => "p8 dashed",
        "p9" => "p9 dashed",
        "p10" => "p10 dashed",
        "p11" => "p11 dashed",
        "p12" => "p12 dashed",
        solid => solid,
    }
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
        AtConnections, Benchmark, Broken, Counted, Measured, Quantile, Resident, Spread, Version,
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
    fn what_was_not_measured_is_left_out() {
        let html = page(None, Some(&runtime()), &BTreeMap::new());
        assert!(html.contains("Green threads") && !html.contains("Connections"));
    }
}
