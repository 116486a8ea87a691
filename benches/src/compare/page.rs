//! The results as one HTML page that needs nothing but itself.

use std::fmt::Write;

use super::machine::Machine;
use super::measurement::{Figures, Kind, Load, Measurement};
use super::table::{HEAD, note, row, same_group};
use crate::plot::{Chart, NARROW, STYLE, Series, Sign, bytes, count, escape, seconds, thousands};

/// The whole page. `command` is what was typed to make it, `method` one sentence or two for each thing to know about
/// how it was measured.
pub fn page(machine: &Machine, command: &str, method: &[String], measurements: &[Measurement]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Green threads beside a thread per connection</title>\n<style>{STYLE}</style>\n<main>\n\
         <h1>Green threads beside a thread per connection</h1>\n\
         <p class=\"lead\">The same server, <code>greenserve</code>, with the same HTTP code, once with \
         <b class=\"green\">● a green thread</b> per connection (<code>-k green</code>), once with \
         <b class=\"threads\">■ an OS thread</b> per connection (<code>-k threads</code>).</p>\n"
    );
    let (closed, open): (Vec<_>, Vec<_>) = measurements.iter().partition(|m| matches!(m.load, Load::Closed));
    for target in in_order(closed.iter().map(|m| m.target.as_str())) {
        let here: Vec<_> = closed.iter().copied().filter(|m| m.target == target).collect();
        let _ =
            writeln!(html, "<section>\n<h2><code>{}</code></h2>\n<p>{}</p>", escape(target), about(target));
        tiles(&mut html, &here);
        troubles(&mut html, &here);
        charts(&mut html, &here);
        html.push_str("</section>\n");
    }
    fixed_rate(&mut html, &open);
    all_figures(&mut html, measurements);
    how(&mut html, machine, command, method);
    html.push_str("</main>\n</html>\n");
    html
}

/// What a path is there to show.
fn about(target: &str) -> &'static str {
    match target.split('?').next() {
        Some("/sleep") => {
            "Every request waits, as one does that asks a database or another server. There is nothing to compute: \
             what counts is what a waiting connection costs, and how many can wait at once."
        }
        Some("/plaintext") => {
            "The shortest answer there is, as fast as it can be given. What counts is the processor time that each \
             request takes."
        }
        _ => "",
    }
}

/// One thing measured: its name, how it is taken out of the figures, how it is written.
struct Measure {
    name: &'static str,
    value: fn(&Figures, usize) -> Option<f64>,
    write: fn(f64) -> String,
}

const fn measure(
    name: &'static str,
    value: fn(&Figures, usize) -> Option<f64>,
    write: fn(f64) -> String,
) -> Measure {
    Measure { name, value, write }
}

const MEASURES: [Measure; 8] = [
    measure("Requests per second", |f, _| Some(f.rate), count),
    measure("Latency, median", |f, _| Some(f.latency?.p50.as_secs_f64()), seconds),
    measure("Latency, 99th percentile", |f, _| Some(f.latency?.p99.as_secs_f64()), seconds),
    measure("Latency, 99.9th percentile", |f, _| Some(f.latency?.p999.as_secs_f64()), seconds),
    measure("CPU time per request", |f, _| Some(f.cpu_per_request?.as_secs_f64()), seconds),
    measure("Resident memory", |f, _| Some(f.resident as f64), bytes),
    measure("Memory per connection", |f, n| Some(f.resident_per_connection(n) as f64), bytes),
    measure("OS threads", |f, _| Some(f.threads as f64), count),
];

/// The figures at the largest number of connections that both kinds were measured with, side by side.
fn tiles(html: &mut String, here: &[&Measurement]) {
    let figures = |kind, connections| {
        here.iter()
            .find(|m| m.kind == kind && m.connections == connections)
            .and_then(|m| m.outcome.as_ref().ok())
    };
    let both = |n: usize| Some((figures(Kind::Green, n)?, figures(Kind::Threads, n)?));
    let Some((most, green, threads)) = here
        .iter()
        .filter_map(|m| both(m.connections).map(|(green, threads)| (m.connections, green, threads)))
        .max_by_key(|found| found.0)
    else {
        return;
    };
    let _ = writeln!(
        html,
        "<h3>With {} connections: green, threads and their ratio</h3>\n<div class=\"tiles\">",
        thousands(most)
    );
    for index in [0, 2, 4, 6, 7] {
        let measure = &MEASURES[index];
        let (Some(green), Some(threads)) = ((measure.value)(green, most), (measure.value)(threads, most))
        else {
            continue;
        };
        let ratio =
            if green > 0.0 && threads > 0.0 { digits(green / threads) + " ×" } else { String::new() };
        let _ = writeln!(
            html,
            "<div class=\"tile\"><h4>{}</h4><b class=\"green\">● {}</b><b class=\"threads\">■ {}</b><small>{ratio}</small></div>",
            measure.name,
            (measure.write)(green),
            (measure.write)(threads),
        );
    }
    html.push_str("</div>\n");
}

/// What failed, beside the figures that look better than they are for it.
fn troubles(html: &mut String, here: &[&Measurement]) {
    for m in here {
        if let Some(note) = note(m) {
            let _ = writeln!(
                html,
                "<p class=\"failed\">{}, {} connections: {}</p>",
                m.kind,
                thousands(m.connections),
                escape(&note)
            );
        }
    }
}

fn charts(html: &mut String, here: &[&Measurement]) {
    let mut counts: Vec<usize> = here.iter().map(|m| m.connections).collect();
    counts.sort_unstable();
    counts.dedup();
    html.push_str("<div class=\"charts\">\n");
    for measure in &MEASURES {
        let series = [Kind::Green, Kind::Threads].map(|kind| {
            line(
                kind,
                here.iter().filter(|m| m.kind == kind).filter_map(|m| {
                    let value = (measure.value)(m.outcome.as_ref().ok()?, m.connections)?;
                    let text = format!(
                        "{kind}, {} connections: {}",
                        thousands(m.connections),
                        (measure.write)(value)
                    );
                    Some(((m.connections as f64).log10(), value, text))
                }),
            )
        });
        let chart = Chart {
            title: measure.name,
            size: NARROW,
            x_title: "connections",
            x_ticks: counts.iter().map(|n| ((*n as f64).log10(), count(*n as f64))).collect(),
            write: measure.write,
            series: series.into(),
        };
        let _ = writeln!(html, "<figure><figcaption>{}</figcaption>\n{}</figure>", measure.name, chart.svg());
    }
    html.push_str("</div>\n");
}

/// Latency at a rate that both servers can sustain.
fn fixed_rate(html: &mut String, open: &[&Measurement]) {
    if open.is_empty() {
        return;
    }
    html.push_str(
        "<section>\n<h2>At a fixed rate</h2>\n<p>Requests are due at fixed moments, whatever the server does, and a \
         latency counts from the moment its request was due. So a stall is felt by all whom it keeps waiting, as it is \
         by users, and not only by the one request that was under way.</p>\n<div class=\"charts\">\n",
    );
    let mut groups: Vec<&Measurement> = Vec::new();
    for m in open {
        if !groups.iter().any(|group| same_group(group, m)) {
            groups.push(m);
        }
    }
    const PARTS: [&str; 4] = ["median", "99 %", "99.9 %", "slowest"];
    for group in groups {
        let Load::Open(rate) = group.load else { continue };
        let series = [Kind::Green, Kind::Threads].map(|kind| {
            let found = open.iter().find(|m| same_group(m, group) && m.kind == kind);
            let latency = found.and_then(|m| m.outcome.as_ref().ok()?.latency);
            let values = latency.map(|l| [l.p50, l.p99, l.p999, l.max].map(|d| d.as_secs_f64()));
            line(
                kind,
                values.into_iter().flatten().enumerate().map(|(index, value)| {
                    (index as f64, value, format!("{kind}, {}: {}", PARTS[index], seconds(value)))
                }),
            )
        });
        let title = format!(
            "{}, {} requests/s over {} connections",
            group.target,
            count(rate),
            thousands(group.connections)
        );
        let chart = Chart {
            title: &title,
            size: NARROW,
            x_title: "share of the requests that took at most so long",
            x_ticks: PARTS
                .iter()
                .enumerate()
                .map(|(index, part)| (index as f64, (*part).to_owned()))
                .collect(),
            write: seconds,
            series: series.into(),
        };
        let _ =
            writeln!(html, "<figure><figcaption>{}</figcaption>\n{}</figure>", escape(&title), chart.svg());
    }
    html.push_str("</div>\n</section>\n");
}

fn line(kind: Kind, points: impl Iterator<Item = (f64, f64, String)>) -> Series<'static> {
    let (name, class) = match kind {
        Kind::Green => ("green", "green"),
        Kind::Threads => ("threads", "threads"),
    };
    let sign = if kind == Kind::Threads { Sign::Square } else { Sign::Round };
    Series { name, class, sign, points: points.collect(), broken: None }
}

fn all_figures(html: &mut String, measurements: &[Measurement]) {
    html.push_str("<section>\n<h2>All figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr>");
    for head in HEAD {
        let _ = write!(html, "<th>{head}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (index, m) in measurements.iter().enumerate() {
        let new_group = index > 0 && !same_group(m, &measurements[index - 1]);
        let class = match m.kind {
            Kind::Green => "green",
            Kind::Threads => "threads",
        };
        let _ = write!(html, "<tr{}>", if new_group { " class=\"group\"" } else { "" });
        for (column, cell) in row(m).iter().enumerate() {
            let class = if column == 1 { format!(" class=\"{class}\"") } else { String::new() };
            let _ = write!(html, "<td{class}>{}</td>", escape(cell));
        }
        html.push_str("</tr>\n");
        if let Some(note) = note(m) {
            let _ = writeln!(
                html,
                "<tr><td class=\"failed\" colspan=\"{}\">{}</td></tr>",
                HEAD.len(),
                escape(&note)
            );
        }
    }
    html.push_str("</tbody></table></div>\n</section>\n");
}

fn how(html: &mut String, machine: &Machine, command: &str, method: &[String]) {
    html.push_str("<section>\n<h2>How it was measured</h2>\n<ul>\n");
    for sentence in method {
        let _ = writeln!(html, "<li>{}</li>", escape(sentence));
    }
    let _ = writeln!(
        html,
        "</ul>\n<dl>\n<dt>Machine</dt><dd>{}, {} processors, {} memory</dd>\n<dt>Kernel</dt><dd>{}</dd>\n\
         <dt>Versions</dt><dd>{}</dd>\n<dt>Date</dt><dd>{}</dd>\n<dt>Command</dt><dd><code>{}</code></dd>\n</dl>\n</section>",
        escape(&machine.processor),
        machine.processors,
        bytes(machine.memory as f64),
        escape(&machine.kernel),
        escape(&machine.versions),
        escape(&machine.date),
        escape(command),
    );
}

/// The different ones, in the order in which they come first.
fn in_order<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

/// A ratio with two significant digits; a small one as a fraction.
fn digits(ratio: f64) -> String {
    match ratio {
        r if r >= 9.95 => format!("{r:.0}"),
        r if r >= 0.995 => format!("{r:.1}"),
        r if r >= 0.095 => format!("{r:.2}"),
        r => format!("1/{}", thousands((1.0 / r).round() as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::made_up;
    use super::*;

    #[test]
    fn the_page_holds_every_figure_and_needs_no_other_file() {
        let mut all = made_up();
        all[0].outcome = Err("no <connection>".into());
        let open = Measurement { load: Load::Open(5000.0), ..all[2].clone() };
        all.push(open);
        let html = page(&Machine::default(), "compare --quick", &["One & two.".into()], &all);

        assert_eq!(html.matches("<svg").count(), 2 * MEASURES.len() + 1);
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        for m in &all {
            for cell in row(m) {
                assert!(html.contains(&format!(">{}</td>", escape(&cell))), "{cell}");
            }
        }
        assert!(html.contains("not measured: no &lt;connection&gt;") && html.contains("One &amp; two."));
        assert!(html.contains("With 1,000 connections"));
        for foreign in ["http://", "https://", "src=", "href=", "<script"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([12.3, 1.0, 0.4, 0.000_999].map(digits), ["12", "1.0", "0.40", "1/1,001"]);
    }
}
