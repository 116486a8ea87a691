//! The results as one HTML page that needs nothing but itself: a bar for each server, row by row.

use std::fmt::Write;

use super::figures::{Results, Verdict};
use super::report::table;
use super::rows::{Row, Way};
use crate::compare::{STYLE, escape};

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>greenserve beside its peers</title>\n<style>{STYLE}{BARS}</style>\n<main>\n\
         <h1>greenserve beside its peers</h1>\n\
         <p class=\"lead\">One processor for the server, one for the client. <b class=\"threads\">bare</b> is an epoll \
         loop in C that parses nothing: what a server takes more than that it takes for HTTP.</p>\n\
         <section>\n<h2>Marks</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>what</th><th>figure</th><th>mark</th><th></th></tr></thead>\n<tbody>\n"
    );
    for Verdict { title, figure, mark, met } in results.verdicts() {
        let met = if met { "<td class=\"green\">met</td>" } else { "<td class=\"failed\">not met</td>" };
        let cells = [title, &figure, &mark].map(|cell| format!("<td>{}</td>", escape(cell)));
        let _ = writeln!(html, "<tr>{}{met}</tr>", cells.concat());
    }
    html.push_str(
        "</tbody></table></div>\n</section>\n<section>\n<h2>Servers</h2>\n<div class=\"charts\">\n",
    );
    for row in results.rows() {
        bars(&mut html, results, row);
    }
    html.push_str("</div>\n</section>\n<section>\n<h2>All figures</h2>\n");
    for row in results.rows() {
        let _ = writeln!(html, "<h3>{}</h3>\n<div class=\"scroll\"><table>", escape(row.title));
        for (number, line) in table(results, row).iter().enumerate() {
            let tag = if number == 0 { "th" } else { "td" };
            let cells: String = line.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            let _ = writeln!(html, "<tr>{cells}</tr>");
        }
        html.push_str("</table></div>\n");
    }
    html.push_str("</section>\n<section>\n<h2>How it was measured</h2>\n<ul>\n");
    for sentence in &results.method {
        let _ = writeln!(html, "<li>{}</li>", escape(sentence));
    }
    let machine = &results.machine;
    let _ = writeln!(
        html,
        "</ul>\n<dl>\n<dt>Machine</dt><dd>{}, {} processors</dd>\n<dt>Kernel</dt><dd>{}</dd>\n<dt>Date</dt><dd>{}</dd>\n\
         <dt>Command</dt><dd><code>{}</code></dd>\n",
        escape(&machine.processor),
        machine.processors,
        escape(&machine.kernel),
        escape(&machine.date),
        escape(&results.command),
    );
    for (peer, version) in &results.versions {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}: {}</dd>", peer.name, escape(peer.what), escape(version));
    }
    for name in &results.missing {
        let _ = writeln!(html, "<dt>{name}</dt><dd>not installed</dd>");
    }
    html.push_str("</dl>\n</section>\n</main>\n</html>\n");
    html
}

/// A bar for each server; one that is many times longer than the others is cut off where they can still be told apart.
fn bars(html: &mut String, results: &Results, row: Row) {
    let unit = match row.way {
        Way::Keep { .. } | Way::Close { .. } => "processor time, as a multiple of bare's",
        Way::Latency { .. } => "99th percentile, in microseconds",
        Way::Idle { .. } | Way::Busy { .. } => "bytes each",
    };
    let ranked: Vec<_> = results
        .ranked(row)
        .into_iter()
        .filter_map(|cell| {
            let value = match row.way {
                Way::Keep { .. } | Way::Close { .. } => results.ratio(cell)?.median,
                Way::Latency { .. } => cell.key()? * 1e6,
                Way::Idle { .. } | Way::Busy { .. } => cell.key()?,
            };
            Some((cell.peer, value))
        })
        .collect();
    let middle = ranked.get(ranked.len() / 2).map_or(1.0, |it| it.1);
    let longest = ranked.iter().map(|it| it.1).fold(0.0, f64::max).min(3.0 * middle).max(f64::MIN_POSITIVE);
    let _ = writeln!(
        html,
        "<figure><figcaption>{}</figcaption>\n<p class=\"unit\">{unit}</p>\n<div class=\"bars\">",
        escape(row.title)
    );
    for (name, value) in ranked {
        let class = match name {
            "greenserve" => "green",
            "bare" => "threads",
            _ => "other",
        };
        let cut = if value > longest { " cut" } else { "" };
        let shown = if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        let _ = writeln!(
            html,
            "<span>{}</span><i class=\"{class}{cut}\" style=\"width:{:.1}%\"></i><b>{shown}</b>",
            escape(name),
            100.0 * (value / longest).min(1.0),
        );
    }
    html.push_str("</div></figure>\n");
}

const BARS: &str = "
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .2rem .6rem; align-items: center; padding: 0 .5rem .6rem; font-size: .85rem; }
.bars i { display: block; height: .8rem; border-radius: 3px; background: var(--dim); } .bars i.green { background: var(--green); } .bars i.threads { background: var(--threads); }
.bars i.cut { border-right: 6px double var(--card); } .bars b { font-variant-numeric: tabular-nums; text-align: right; }
.unit { margin: 0; padding: 0 .5rem .3rem; color: var(--dim); font-size: .85rem; }
";

#[cfg(test)]
mod tests {
    use super::super::figures::tests::made_up;
    use super::*;

    #[test]
    fn the_page_has_every_figure_and_needs_no_other_file() {
        let results = made_up();
        let html = page(&results);
        assert_eq!(html.matches("<figure>").count(), results.rows().len());
        for row in results.rows() {
            for cell in table(&results, row).concat() {
                assert!(html.contains(&escape(&cell)), "{cell}");
            }
        }
        assert!(html.contains("One &amp; two."));
        for foreign in ["http://", "https://", "src=", "href=", "<script"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
