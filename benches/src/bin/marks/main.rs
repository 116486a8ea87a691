//! Measures greenserve beside its peers, row by row of the marks that it has to reach, and writes what comes out into
//! `benches/RESULTS.md` and into the report, a page with charts.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin marks
//! cargo run --release -p greenserve-benches --bin marks -- --quick
//! cargo run --release -p greenserve-benches --bin marks -- --only plaintext,pipelined --peers hyper,nginx
//! cargo run --release -p greenserve-benches --bin marks -- --workers 1
//! ```

mod bench;
mod generators;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use greenserve_benches::compare::{Cpus, Machine, raise_descriptor_limit};
use greenserve_benches::marks::{PEERS, Peer, ROWS, Results, Site, markdown, record, text};
use greenserve_benches::report::{Files, explain, read_document, splice, target_directory, write};

use bench::{Bench, ROUNDS_OF_SLOW, SECONDS_OF_POINT, SHARE_OF_PEAK};

/// Measure greenserve beside its peers, against the marks that it has to reach.
///
/// Installs the peers first (benches/peers/setup; crates.io, PyPI and the distribution's packages are asked for what is
/// missing). Traffic goes over loopback. Takes ten to twelve minutes; see --quick.
#[derive(Debug, Parser)]
#[command(name = "marks")]
struct Options {
    /// Rows to measure [default: all; --list shows them]
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    only: Vec<String>,

    /// Peers to measure, beside greenserve and bare [default: all that are installed]
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    peers: Vec<String>,

    /// Rounds of each measurement under load; the servers take turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,

    /// Seconds that each round counts
    #[arg(long, value_name = "SECONDS", default_value_t = 0.8, value_parser = positive)]
    seconds: f64,

    /// Workers that greenserve has under a master; 0 is none and no master. Processor time and memory are then those of the workers
    /// together, without the master's. The row `workers` and what is counted are the same with any number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=64))]
    workers: u8,

    /// Fewer and shorter rounds, no Python, not the row with the most connections: for a first look, in about two minutes
    #[arg(long)]
    quick: bool,

    /// Show the names of rows and peers
    #[arg(long)]
    list: bool,

    /// Don't install anything
    #[arg(long)]
    no_setup: bool,

    /// Where the peers are installed [default: peers/ in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    installed: Option<PathBuf>,

    /// The document to write the results into; what stands outside of its marked part stays
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    results: PathBuf,

    /// Where to write the report: what is recorded of the runtime is in it, too [default: report.html in the target directory]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Where to write all figures as JSON [default: marks.json in the target directory]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number > 0.0 && number < 60.0 {
        Ok(number)
    } else {
        Err("must be more than 0 and less than 60".into())
    }
}

fn main() -> ExitCode {
    match marks(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("marks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn marks(mut options: Options) -> io::Result<()> {
    if options.list {
        ROWS.iter().for_each(|row| println!("row   {:<16} {}", row.name, row.title));
        PEERS.iter().for_each(|peer| println!("peer  {:<16} {}", peer.name, peer.what));
        return Ok(());
    }
    if options.quick {
        options.rounds = options.rounds.min(2);
        options.seconds = options.seconds.min(0.2);
    }
    let target = target_directory()?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let installed = options.installed.clone().unwrap_or_else(|| target.join("peers"));
    if !options.no_setup {
        eprintln!("installing what is missing …");
        let status = Command::new(sources.join("setup")).arg(&installed).stdout(io::stderr()).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("benches/peers/setup failed ({status})")));
        }
    }
    let site =
        Site { installed: std::fs::canonicalize(&installed)?, sources, workers: options.workers.into() };
    let mut rows = chosen(ROWS, |row| row.name, &options.only, "row")?;
    if options.quick && options.only.is_empty() {
        // the same once more, with more connections
        rows.retain(|row| row.name != "idle-19000");
    }
    let peers: Vec<_> = chosen(PEERS, |peer| peer.name, &options.peers, "peer")?;
    let named = |peer: &Peer| peer.is_ours() || peer.name == "bare";
    let peers: Vec<&Peer> = PEERS
        .iter()
        .filter(|peer| named(peer) || peers.iter().any(|chosen| chosen.name == peer.name))
        .filter(|peer| !(options.quick && peer.slow))
        .collect();
    let (peers, missing): (Vec<&Peer>, Vec<&Peer>) =
        peers.into_iter().partition(|peer| peer.installed(&site));

    raise_descriptor_limit()?;
    let cpus = Cpus::choose()?;
    if let Some(cpus) = cpus {
        cpus.pin_load()?;
    }
    let mut bench = Bench::new(&options, &site, cpus);
    let cells = bench.rows(&rows, &peers);
    let everything = options.only.is_empty();
    let generators = if everything { bench.generators() } else { Ok(Vec::new()) };
    bench.rest();
    let counts = if everything { bench.counts(&peers) } else { Vec::new() };
    bench.clear_line();
    let begin = bench.begin;

    let command = std::env::args().skip(1).fold("marks".to_owned(), |command, word| command + " " + &word);
    let results = Results {
        machine: Machine::here(),
        command: format!(
            "cargo run --release -p greenserve-benches --bin {}",
            command.replacen("marks ", "marks -- ", 1)
        ),
        method: method(&options, cpus),
        versions: peers.iter().map(|&peer| (peer, peer.version(&site))).collect(),
        missing: missing.iter().map(|peer| peer.name).collect(),
        generators: generators.unwrap_or_else(|error| {
            eprintln!("marks: the load generators could not be compared: {error}");
            Vec::new()
        }),
        counts,
        cells,
    };
    print!("{}", text(&results));
    let standard = Files::standard(&target);
    let files = Files {
        http: options.json.clone().unwrap_or(standard.http),
        document: options.results.clone(),
        page: options.report.clone().unwrap_or(standard.page),
        ..standard
    };
    let record = record(&results);
    write(&files.http, &record.json())?;
    let document = splice(&read_document(&files.document)?, "marks", &markdown(&results));
    write(&files.document, &explain(&document, "marks", &record.marks))?;
    for name in &results.missing {
        println!("{name}: not installed");
    }
    println!(
        "\n{:.0} s; figures: {}, document: {}",
        begin.elapsed().as_secs_f64(),
        files.http.display(),
        files.document.display()
    );
    match files.assemble() {
        Ok(()) => println!("charts: {}", files.page.display()),
        // what is measured is kept, and `report` can be run again
        Err(error) => eprintln!("marks: the report could not be made: {error}"),
    }
    Ok(())
}

fn chosen<T: Copy>(
    all: &[T],
    name: impl Fn(&T) -> &str,
    wanted: &[String],
    what: &str,
) -> io::Result<Vec<T>> {
    if let Some(unknown) = wanted.iter().find(|wanted| all.iter().all(|it| name(it) != wanted.as_str())) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no {what} `{unknown}`; --list shows them"),
        ));
    }
    Ok(all
        .iter()
        .filter(|it| wanted.is_empty() || wanted.iter().any(|wanted| name(it) == wanted))
        .copied()
        .collect())
}

/// What a reader of the results should know.
fn method(options: &Options, cpus: Option<Cpus>) -> Vec<String> {
    let mut sentences = vec![
        match cpus {
            Some(_) => "The server is bound to one processor, the load generator to another; traffic goes over loopback. Only where two workers \
                        are compared with one the servers have all processors but the load generator's, and of two processors both."
                .to_owned(),
            None => "There is only one processor: server and load generator share it.".to_owned(),
        },
        "bare (benches/peers/bare) is a single-thread epoll loop in C that parses nothing and answers with bytes prepared beforehand; \
         its stream is sent in one go, also where the others flush."
            .to_owned(),
        "CPU is what the scheduler has counted for all threads of all processes of the server, in nanoseconds (/proc/PID/task/TID/schedstat). \
         As a multiple of bare's it is that of the same round: the servers take turns, so that what disturbs the machine disturbs all alike."
            .to_owned(),
        format!(
            "{} rounds of {} s each after a warm-up ({ROUNDS_OF_SLOW} for Python); medians, in parentheses the least and the most.",
            options.rounds, options.seconds
        ),
        "All servers go on running from row to row; memory is measured with a fresh process each, by /proc/PID/smaps_rollup, as what the \
         connections add to a server that has answered one request. Idle connections are added to one process, which is looked at on the \
         way to the most; what is charted against connections is all that is resident."
            .to_owned(),
        format!(
            "From 1 to 10,000 connections each server has one round of at most {SECONDS_OF_POINT} s for each number, after each connection \
             had its time to be accepted: it shows the shape, the rows with rounds tell the figures."
        ),
        "The load generator (benches/src/blast) is one thread with one epoll. It parses the first answer and tells the others apart by \
         their length; of long bodies the kernel throws the bytes away. Where `client busy` is near 100 % the server could give more than \
         was asked of it: requests/s is then the client's, CPU still the server's."
            .to_owned(),
        format!(
            "Latencies are measured in open loop at {:.0} % of each server's own peak rate: requests are due at fixed moments and a latency counts \
             from then, so a stall is felt by all whom it keeps waiting. The client asks the kernel over and over and never sleeps.",
            SHARE_OF_PEAK * 100.0
        ),
    ];
    sentences.push(
        "Two workers and one take turns, each under a master. What two yield is told by the processor time that an answer takes, twice as \
         much being there for it: requests/s are also the load generator's, which is one thread, and on two processors shares them with \
         the servers. That the workers have equal shares of the connections is taken for granted."
            .to_owned(),
    );
    sentences.push(match options.workers {
        0 => "greenserve has no master and no other process in all other rows (--workers 0).".to_owned(),
        workers => format!(
            "greenserve has a master and --workers {workers} in all other rows; what is measured is the workers', without the master. \
             Instructions, allocations and system calls are counted without a master."
        ),
    });
    if options.quick {
        sentences.push("A quick look (--quick): expect noise.".to_owned());
    }
    sentences
}
