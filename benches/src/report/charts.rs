//! The sections of the report that are charts.

use std::fmt::Write;

use super::recorded::{AtConnections, Growth, Http, Kind, Row, Runtime, Server, Stage};
use crate::plot::{Bar, Chart, Series, Sign, WIDE, bars, bytes, count, escape, seconds, thousands};

pub(super) fn load(html: &mut String, http: &Http) {
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

pub(super) fn connections(html: &mut String, http: &Http) {
    html.push_str("<section>\n<h2>Connections</h2>\n");
    let swept = http.rows.iter().find(|row| row.kind == Kind::Connections);
    // the row with the most connections has been looked at all the way there
    let longest = |row: &&Row| row.servers.iter().map(|server| server.resident.len()).max();
    let held = http.rows.iter().filter(|row| row.kind == Kind::Memory).max_by_key(longest);
    html.push_str("<div class=\"charts wide\">\n");
    if let Some(row) = swept {
        let lines = |value: fn(&AtConnections) -> Option<f64>, write: fn(f64) -> String| {
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
    html.push_str("</div>\n");
    for server in swept.iter().flat_map(|row| &row.servers) {
        for at in &server.by_connections {
            if let Some(error) = &at.error {
                failed(html, &server.server, at.connections, error);
            }
        }
    }
    html.push_str("<div class=\"charts\">\n");
    for row in http.rows.iter().filter(|row| row.kind == Kind::Memory) {
        let value = |server: &Server| {
            server.bytes_per_connection.map(|each| (each, thousands(each.max(0.0) as usize)))
        };
        row_of_bars(html, row, "resident bytes added by each ▾ lower is better", value);
    }
    html.push_str("</div>\n</section>\n");
}

pub(super) fn latency(html: &mut String, http: &Http) {
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

pub(super) fn greenlets(html: &mut String, runtime: &Runtime) {
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
            failed(html, runtime, broken.count, &broken.why);
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

/// Why a line ends with a cross.
fn failed(html: &mut String, name: &str, number: usize, why: &str) {
    let (name, number, why) = (escape(name), thousands(number), escape(why));
    let _ = writeln!(html, "<p class=\"failed\">✕ {name} with {number}: {why}</p>");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nine_is_a_step_of_its_own() {
        for (quantile, position) in [(0.9, 1.0), (0.99, 2.0), (0.9999, 4.0)] {
            assert!((beyond(quantile) - position).abs() < 1e-9, "{quantile}");
        }
    }

    #[test]
    fn ours_lies_on_top_and_both_sides_of_a_project_look_alike() {
        let lines = ["greenserve", "go", "bare"].map(|name| line(name, Sign::Round, Vec::new(), None));
        let order: Vec<_> = ours_last(lines.into()).iter().map(|line| line.name).collect();
        assert_eq!(order, ["go", "bare", "greenserve"]);
        assert_eq!(look("Go 1.19.8"), look("go"));
        assert_eq!(look("this one"), look("greenserve"));
    }

    #[test]
    fn numbers_stand_on_a_logarithmic_axis() {
        let points = [1, 1000].map(|number| (number, 7.0, "text".to_owned()));
        let chart = over([("go", (points.into(), None))].into_iter(), count, "connections");
        assert_eq!(chart.x_ticks, [(0.0, "1".to_owned()), (3.0, "1 k".to_owned())]);
        assert_eq!(chart.series[0].points[1].2, "1,000 connections, text");
    }
}
