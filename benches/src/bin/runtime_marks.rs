//! Measures the runtime's building blocks beside those of other runtimes, tells which marks are met and writes what comes
//! out into `benches/RESULTS.md`.
//!
//! ```text
//! benches/peers/setup
//! cargo run --release -p greenserve-benches --bin runtime_marks
//! cargo run --release -p greenserve-benches --bin runtime_marks -- --only switch,ping_pong --runs 9
//! ```
//!
//! Builds the peers' programs by itself, except for Python's: gevent is taken from the environment that
//! `benches/peers/setup` makes. A peer that can't be had is left out and said to be missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use greenserve_benches::compare::{Cpus, Machine, raise_descriptor_limit};
use greenserve_benches::marks::splice;
use greenserve_benches::runtime_marks::{Failure, Found, Program, ROWS, Report, ours, peers};

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

    /// How many greenlets to park
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
    let mut found = Vec::new();
    for bench in benches {
        eprintln!("{bench}");
        found.extend(measure(bench, &mut programs, options));
    }
    let report = Report { machine, parked: options.parked, found };
    print!("{}", report.text());
    let json = options.json.clone().unwrap_or_else(|| target.join("runtime_marks.json"));
    write(&json, &format!("{:#}\n", report.json()))?;
    let everything = options.only.is_empty() && !options.no_peers;
    let standard = || Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    if let Some(results) = options.results.clone().or_else(|| everything.then(standard)) {
        let document = match fs::read_to_string(&results) {
            Ok(document) => document,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "# Results\n".to_owned(),
            Err(error) => return Err(error),
        };
        write(&results, &splice(&document, "runtime", &report.markdown()))?;
    }
    Ok(())
}

/// Runs one benchmark in all programs in turns, so that what disturbs the machine disturbs all of them.
fn measure(bench: &'static str, programs: &mut [Program], options: &Options) -> Vec<Found> {
    let mut runs: Vec<Result<Vec<_>, Failure>> = programs.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..options.runs {
        for (program, runs) in programs.iter_mut().zip(&mut runs) {
            let Ok(figures) = runs else { continue };
            match program.run(bench, options.parked, Duration::from_secs(options.limit)) {
                Ok(found) => figures.push(found),
                Err(failure) => *runs = Err(failure),
            }
        }
    }
    let found = programs.iter().zip(runs);
    found
        .map(|(program, runs)| Found { bench, runtime: program.name.clone(), ours: program.ours, runs })
        .collect()
}

fn target_directory() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
    Ok(target.to_owned())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| io::Error::new(error.kind(), format!("can't write {}: {error}", path.display())))
}
