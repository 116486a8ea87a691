//! Measures the runtime's building blocks beside those of other runtimes, tells which marks are met and writes what comes
//! out into `benches/RESULTS.md` and into the report, a page with charts.
//!
//! ```text
//! benches/peers/setup
//! cargo run --release -p greenserve-benches --bin runtime_marks
//! cargo run --release -p greenserve-benches --bin runtime_marks -- --only switch,ping_pong --runs 9
//! ```
//!
//! Builds the peers' programs by itself, except for Python's: gevent is taken from the environment that
//! `benches/peers/setup` makes. A peer that can't be had is left out and said to be missing.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenserve_benches::compare::{Cpus, Machine, raise_descriptor_limit};
use greenserve_benches::report::{Files, Growth, explain, read_document, splice, target_directory, write};
use greenserve_benches::runtime_marks::{
    Failure, Found, PARKED, Program, ROWS, Report, add_runs, growth, ours, peers,
};

/// Measure the runtime's building blocks beside those of other runtimes (loopback only). Takes about ten minutes.
#[derive(Debug, Parser)]
#[command(name = "runtime_marks")]
struct Options {
    /// Runs of each benchmark; the figure is their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// Benchmarks to run [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,

    /// How many greenlets to park; on the way there are fewer, for the charts
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    parked: usize,

    /// Seconds that one run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,

    /// Measure our own runtime alone
    #[arg(long)]
    no_peers: bool,

    /// Where the peers are installed [default: peers/ in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    installed: Option<PathBuf>,

    /// The document to write the results into; what stands outside of its marked part stays [default: benches/RESULTS.md if
    /// everything is measured, else none]
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// Where to write all figures as JSON [default: runtime_marks.json in the target directory]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Where to write the report: what is recorded of the servers is in it, too [default: report.html in the target directory]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Run this benchmark once and print its line: how the program calls itself
    #[arg(long, hide = true, num_args = 2, value_names = ["NAME", "N"])]
    one: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.one.as_deref() {
        Some([name, count]) => one(name, count),
        _ => all(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runtime_marks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn one(name: &str, count: &str) -> io::Result<()> {
    let count = count.parse().map_err(|_| io::Error::other(format!("`{count}` is not a number")))?;
    println!("{}", ours::run(name, count)?);
    Ok(())
}

fn all(options: &Options) -> io::Result<()> {
    let mut benches: Vec<_> = ROWS.iter().map(|row| row.bench).collect();
    benches.dedup();
    if let Some(unknown) = options.only.iter().find(|name| !benches.contains(&name.as_str())) {
        let known = benches.join(", ");
        return Err(io::Error::other(format!("there is no benchmark `{unknown}`; there are {known}")));
    }
    benches.retain(|bench| options.only.is_empty() || options.only.iter().any(|name| name == bench));

    let target = target_directory()?;
    raise_descriptor_limit()?;
    let mut programs = vec![Program::ours(&["--one"])?];
    if !options.no_peers {
        eprintln!("building the peers");
        programs.extend(peers(&options.installed.clone().unwrap_or_else(|| target.join("peers"))));
    }
    let machine = Machine::here();
    // the programs inherit it
    if let Some(cpus) = Cpus::choose()? {
        cpus.pin_load()?;
    }
    let limit = Duration::from_secs(options.limit);
    let mut grown = Vec::new();
    let mut found = Vec::new();
    for bench in benches {
        eprintln!("{bench}");
        if bench == PARKED {
            grown = growth(&mut programs, options.parked, limit);
        }
        found.extend(measure(bench, &mut programs, options, &mut grown));
    }
    let arguments = std::env::args().skip(1).fold(String::new(), |all, word| all + " " + &word);
    let report = Report {
        machine,
        command: format!(
            "cargo run --release -p greenserve-benches --bin runtime_marks{}{arguments}",
            if arguments.is_empty() { "" } else { " --" }
        ),
        parked: options.parked,
        found,
        growth: grown,
    };
    print!("{}", report.text());
    let everything = options.only.is_empty() && !options.no_peers;
    let standard = Files::standard(&target);
    let document = options.results.clone().or_else(|| everything.then(|| standard.document.clone()));
    let files = Files {
        runtime: options.json.clone().unwrap_or(standard.runtime),
        page: options.report.clone().unwrap_or(standard.page),
        document: document.clone().unwrap_or(standard.document),
        ..standard
    };
    write(&files.runtime, &report.record().json())?;
    if let Some(path) = document {
        let document = splice(&read_document(&path)?, "runtime", &report.markdown());
        write(&path, &explain(&document, "runtime", &report.marks()))?;
    }
    println!("\nfigures: {}", files.runtime.display());
    match files.assemble() {
        Ok(()) => println!("charts: {}", files.page.display()),
        // what is measured is kept, and `report` can be run again
        Err(error) => eprintln!("runtime_marks: the report could not be made: {error}"),
    }
    Ok(())
}

/// Runs one benchmark in all programs in turns, so that what disturbs the machine disturbs all of them. What `parked` finds
/// is the last stage of what has `grown`; who has failed with fewer is not asked again.
fn measure(
    bench: &'static str,
    programs: &mut [Program],
    options: &Options,
    grown: &mut [Growth],
) -> Vec<Found> {
    let mut runs: Vec<Result<Vec<_>, Failure>> = programs.iter().map(|_| Ok(Vec::new())).collect();
    let parked = bench == PARKED;
    if parked {
        for (runs, growth) in runs.iter_mut().zip(&*grown) {
            if let Some(broken) = &growth.broken {
                *runs = Err(Failure::Failed(format!("with {} already: {}", broken.count, broken.why)));
            }
        }
    }
    for _ in 0..options.runs {
        for (program, runs) in programs.iter_mut().zip(&mut runs) {
            let Ok(figures) = runs else { continue };
            match program.run(bench, options.parked, Duration::from_secs(options.limit)) {
                Ok(found) => figures.push(found),
                Err(failure) => *runs = Err(failure),
            }
        }
    }
    if parked {
        for (runs, growth) in runs.iter().zip(grown) {
            add_runs(growth, options.parked, runs);
        }
    }
    let found = programs.iter().zip(runs);
    found
        .map(|(program, runs)| Found { bench, runtime: program.name.clone(), ours: program.ours, runs })
        .collect()
}
