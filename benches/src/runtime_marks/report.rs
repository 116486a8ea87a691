//! What was found, as text, as Markdown and as what is recorded.

use std::fmt::Write;

use super::program::{Failure, Figures};
use super::rows::{ROWS, Row, Target};
use crate::compare::Machine;
use crate::plot::{seconds, thousands};
use crate::report::{self, Benchmark, Growth, Mark, Measured, Runtime, Spread};

/// What the runs of one benchmark by one program found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The benchmark.
    pub bench: &'static str,
    /// The runtime's name, with its version if it tells it.
    pub runtime: String,
    /// Whether it is ours, and not a peer's.
    pub ours: bool,
    /// One entry for each run, or why there is none.
    pub runs: Result<Vec<Figures>, Failure>,
}

/// All that was found, and where.
#[derive(Clone, Debug)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// What was typed.
    pub command: String,
    /// How many greenlets `parked` parked.
    pub parked: usize,
    /// What was found, benchmark by benchmark.
    pub found: Vec<Found>,
    /// What more and more parked greenlets take.
    pub growth: Vec<Growth>,
}

impl Report {
    /// For a terminal: a few lines for each figure.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.rows() {
            text.push_str(&format!("{}{}\n", title(row, self.parked), self.verdict(row)));
            for (found, result) in self.results(row) {
                if matches!(result, Err(Failure::NoSuchBenchmark)) {
                    continue;
                }
                let mark = if found.ours { '*' } else { ' ' };
                text.push_str(&format!("  {mark} {:<20} {}\n", found.runtime, cell(row, &result)));
            }
        }
        text
    }

    /// A section of a page: one table with a line for each figure and a column for each runtime.
    pub fn markdown(&self) -> String {
        let mut columns: Vec<&Found> = Vec::new();
        for found in &self.found {
            if !columns.iter().any(|column| column.runtime == found.runtime) {
                columns.push(found);
            }
        }
        let mut text = String::from("## The runtime\n\n");
        let Machine { processor, processors, kernel, versions, date, .. } = &self.machine;
        text.push_str(&format!("{date}, {processor} × {processors}, {kernel}, {versions}.\n\n"));
        let _ = write!(
            text,
            "Made by `{}`. Each figure is the median of several \
             runs (least–most), each in a process of its own, all pinned to one processor. Times are processor time, in \
             user and kernel mode.\n\n| what | mark | met |",
            self.command
        );
        columns.iter().for_each(|found| text.push_str(&format!(" {} |", found.runtime)));
        text.push_str(&format!("\n|{}\n", " --- |".repeat(columns.len() + 3)));
        for row in self.rows() {
            let met = self.met(row).map_or("", |met| if met { "yes" } else { "**no**" });
            text.push_str(&format!("| {} | {} | {met} |", title(row, self.parked), mark(row)));
            for column in &columns {
                let result = self.results(row).find(|(found, _)| found.runtime == column.runtime);
                let cell = match result {
                    Some((_, Ok(spread))) => cell(row, &Ok(spread)),
                    None | Some((_, Err(Failure::NoSuchBenchmark))) => "–".into(),
                    Some((_, Err(Failure::NotInstalled(_)))) => "not installed".into(),
                    Some((_, Err(_))) => "fails".into(),
                };
                text.push_str(&format!(" {cell} |"));
            }
            text.push('\n');
        }
        text.push_str(&format!("\n{}\n\n", report::WHERE));
        if !self.growth.is_empty() {
            text.push_str(&growth_table(&self.growth));
        }
        for found in &self.found {
            if let Err(failure @ (Failure::Failed(_) | Failure::TookTooLong(_))) = &found.runs {
                text.push_str(&format!("- {}, `{}` {failure}\n", found.runtime, found.bench));
            }
        }
        text
    }

    /// Everything, for the report and other programs.
    pub fn record(&self) -> Runtime {
        let measured = |(found, result): (&Found, Result<Spread, Failure>)| Measured {
            runtime: found.runtime.clone(),
            ours: found.ours,
            spread: result.as_ref().ok().copied(),
            failure: result.err().map(|failure| failure.to_string()),
        };
        let rows = self.rows().map(|row| Benchmark {
            what: title(row, self.parked),
            bench: row.bench.to_owned(),
            unit: row.unit.to_owned(),
            mark: mark(row),
            met: self.met(row),
            results: self.results(row).map(measured).collect(),
        });
        let growth = self.growth.iter().filter(|growth| !growth.stages.is_empty() || growth.broken.is_some());
        Runtime {
            machine: self.machine.clone(),
            command: self.command.clone(),
            marks: self.marks(),
            rows: rows.collect(),
            growth: growth.cloned().collect(),
        }
    }

    /// Each mark with our figure.
    pub fn marks(&self) -> Vec<Mark> {
        self.rows()
            .filter(|row| row.target != Target::None)
            .filter_map(|row| {
                let ours = self.results(row).find_map(|(found, result)| found.ours.then_some(result))?;
                let (title, figure) = (title(row, self.parked), cell(row, &ours));
                Some(Mark { title, figure, mark: mark(row), met: self.met(row) })
            })
            .collect()
    }

    /// Whether our figure is what it ought to be; `None` where there is no mark, no figure of ours, or no peer that was
    /// measured.
    pub fn met(&self, row: &Row) -> Option<bool> {
        let of = |ours| self.results(row).filter(move |(found, _)| found.ours == ours);
        let ours = of(true).find_map(|(_, result)| result.ok())?.median;
        match row.target {
            Target::None => None,
            Target::AtMost(most) => Some(ours <= most),
            Target::BelowPeers => {
                let best = of(false).filter_map(|(_, result)| result.ok()).map(|peer| peer.median);
                best.reduce(f64::min).map(|best| ours < best)
            }
        }
    }

    fn verdict(&self, row: &Row) -> String {
        match self.met(row) {
            None => String::new(),
            Some(met) => format!(" (mark: {}: {})", mark(row), if met { "met" } else { "NOT MET" }),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(|row| self.found.iter().any(|found| found.bench == row.bench))
    }

    /// What each runtime has for a row, in the unit shown.
    fn results(&self, row: &Row) -> impl Iterator<Item = (&Found, Result<Spread, Failure>)> {
        self.found.iter().filter(|found| found.bench == row.bench).map(|found| {
            let spread = found.runs.clone().and_then(|runs| {
                let values = runs.iter().filter_map(|figures| figures.get(row.figure));
                Spread::of(values.map(|value| value / row.scale))
                    .ok_or_else(|| Failure::Failed(format!("tells no `{}`", row.figure)))
            });
            (found, spread)
        })
    }
}

/// Parked greenlets, from few to many: a line for each number, a column for each runtime.
fn growth_table(all: &[Growth]) -> String {
    let mut counts: Vec<usize> =
        all.iter().flat_map(|growth| &growth.stages).map(|stage| stage.count).collect();
    counts.sort_unstable();
    counts.dedup();
    let all: Vec<&Growth> = all.iter().filter(|it| !it.stages.is_empty() || it.broken.is_some()).collect();
    let mut text =
        String::from("Parked greenlets, bytes each and processor time until all are:\n\n| greenlets |");
    all.iter().for_each(|growth| text.push_str(&format!(" {} |", growth.runtime)));
    text.push_str(&format!("\n|{}\n", " --- |".repeat(all.len() + 1)));
    for count in counts {
        text.push_str(&format!("| {} |", thousands(count)));
        for growth in &all {
            let stage = growth.stages.iter().find(|stage| stage.count == count);
            let broken = growth.broken.as_ref().is_some_and(|broken| broken.count <= count);
            text.push_str(&match stage {
                Some(stage) => format!(" {:.0} B, {} |", stage.bytes, seconds(stage.seconds)),
                None if broken => " fails |".to_owned(),
                None => " – |".to_owned(),
            });
        }
        text.push('\n');
    }
    text.push_str(&format!("\n{}\n\n", report::WHERE));
    text
}

fn title(row: &Row, parked: usize) -> String {
    let count = if row.bench == "parked" { format!("{parked} ") } else { String::new() };
    let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
    format!("{count}{}{unit}", row.title)
}

fn mark(row: &Row) -> String {
    match row.target {
        Target::AtMost(most) => format!("at most {}", number(most)),
        Target::BelowPeers => "below all peers".into(),
        Target::None => String::new(),
    }
}

fn cell(row: &Row, result: &Result<Spread, Failure>) -> String {
    match result {
        Ok(Spread { median, min, max }) if min == max => {
            format!("{} {}", number(*median), row.unit).trim_end().to_owned()
        }
        Ok(Spread { median, min, max }) => {
            format!("{} ({}–{})", number(*median), number(*min), number(*max))
        }
        Err(failure) => failure.to_string(),
    }
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        value if value.abs() < 1.0 => format!("{value:.2}"),
        value if value.abs() < 100.0 && value.fract() != 0.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Broken, Stage};

    fn found(runtime: &str, ours: bool, runs: Result<&[f64], Failure>) -> Found {
        let runs = runs.map(|runs| runs.iter().map(|ns| Figures::from([("ns".into(), *ns)])).collect());
        Found { bench: "echo_1", runtime: runtime.into(), ours, runs }
    }

    fn report(found: Vec<Found>) -> Report {
        Report {
            machine: Machine::default(),
            command: "runtime_marks".into(),
            parked: 7,
            found,
            growth: Vec::new(),
        }
    }

    fn echo() -> &'static Row {
        ROWS.iter().find(|row| row.bench == "echo_1").unwrap()
    }

    #[test]
    fn a_mark_against_peers_counts_those_that_were_measured() {
        let peer = |runs| found("peer", false, runs);
        let met = |peer| report(vec![found("us", true, Ok(&[2000.0])), peer]).met(echo());
        assert_eq!(met(peer(Ok(&[2001.0]))), Some(true));
        assert_eq!(met(peer(Ok(&[2000.0]))), Some(false));
        assert_eq!(met(peer(Err(Failure::NoSuchBenchmark))), None);
        assert_eq!(report(vec![peer(Ok(&[1.0]))]).met(echo()), None);
    }

    #[test]
    fn figures_and_failures_are_shown_side_by_side() {
        let report = report(vec![
            found("us", true, Ok(&[2000.0, 3000.0, 1500.0])),
            found("peer", false, Err(Failure::Failed("out of luck".into()))),
            found("another", false, Ok(&[4000.0])),
        ]);
        let text = report.text();
        assert!(text.contains("below all peers: met"), "{text}");
        assert!(text.contains("2 (1.5–3)") && text.contains("fails: out of luck"), "{text}");
        let page = report.markdown();
        assert!(page.contains("| below all peers | yes | 2 (1.5–3) | fails |"), "{page}");
        assert!(page.contains("- peer, `echo_1` fails: out of luck\n"), "{page}");
        let record = report.record();
        assert_eq!(record.rows[0].results[0].spread.unwrap().median, 2.0);
        assert_eq!(record.rows[0].results[1].failure.as_deref(), Some("fails: out of luck"));
        let mark = &record.marks[0];
        assert_eq!((mark.figure.as_str(), mark.met), ("2 (1.5–3)", Some(true)));
    }

    #[test]
    fn growth_is_shown_until_it_ends() {
        let stage = |count| Stage { count, seconds: 0.002, bytes: 4096.0 };
        let ours =
            Growth { runtime: "us".into(), stages: vec![stage(1_000), stage(5_000)], ..Growth::default() };
        let broken = Some(Broken { count: 5_000, why: "no stack".into() });
        let peer = Growth { runtime: "peer".into(), stages: vec![stage(1_000)], broken, ..Growth::default() };
        let other = Growth { runtime: "parks nothing".into(), ..Growth::default() };
        let report = Report { growth: vec![ours, peer, other], ..report(Vec::new()) };
        let page = report.markdown();
        assert!(page.contains("| greenlets | us | peer |\n"), "{page}");
        assert!(page.contains("| 5,000 | 4096 B, 2 ms | fails |\n"), "{page}");
        assert_eq!(report.record().growth.len(), 2);
    }
}
