//! Measures greenserve beside its peers, row by row of the marks that it has to reach, and writes what comes out into
//! `benches/RESULTS.md` and a page with charts.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin marks
//! cargo run --release -p greenserve-benches --bin marks -- --quick
//! cargo run --release -p greenserve-benches --bin marks -- --only plaintext,pipelined --peers hyper,nginx
//! ```

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use greenserve_benches::blast::{Answer, Blast, Edge, Outcome, Pace, hold};
use greenserve_benches::compare::{Cpus, Machine, raise_descriptor_limit};
use greenserve_benches::load;
use greenserve_benches::marks::{
    Cell, Counts, Generator, Latency, PEAK, PEERS, Peer, ROWS, Results, Route, Row, Running, SPREAD, Sample,
    Site, Way, json, markdown, own_cpu, page, splice, text,
};

/// Measure greenserve beside its peers, against the marks that it has to reach.
///
/// Installs the peers first (benches/peers/setup; crates.io, PyPI and the distribution's packages are asked for what is
/// missing). Traffic goes over loopback. Takes about ten minutes; see --quick.
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

    /// Fewer and shorter rounds, no Python, not the row with the most connections: for a first look, in less than three minutes
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

    /// Where to write the page [default: marks.html in the target directory]
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

/// Only this many rounds for those who are far behind anyway.
const ROUNDS_OF_SLOW: u64 = 2;
/// Share of the peak rate at which latencies are measured.
const SHARE_OF_PEAK: f64 = 0.7;
/// Longest time to make the connections that are to be held.
const HOLD_PATIENCE: Duration = Duration::from_secs(25);

fn marks(mut options: Options) -> io::Result<()> {
    if options.list {
        ROWS.iter().for_each(|row| println!("row   {:<16} {}", row.name, row.title));
        PEERS.iter().for_each(|peer| println!("peer  {:<16} {}", peer.name, peer.what));
        return Ok(());
    }
    if options.quick {
        options.rounds = options.rounds.min(2);
        options.seconds = options.seconds.min(0.3);
    }
    let target = std::env::current_exe()?
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .ok_or_else(|| io::Error::other("this program is not in a target directory"))?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let installed = options.installed.clone().unwrap_or_else(|| target.join("peers"));
    if !options.no_setup {
        eprintln!("installing what is missing …");
        let status = Command::new(sources.join("setup")).arg(&installed).stdout(io::stderr()).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("benches/peers/setup failed ({status})")));
        }
    }
    let site = Site { installed: std::fs::canonicalize(&installed)?, sources };
    let mut rows = chosen(ROWS, |row| row.name, &options.only, "row")?;
    if options.quick && options.only.is_empty() {
        // the same once more, with more connections
        rows.retain(|row| row.name != "idle-19000");
    }
    let peers: Vec<_> = chosen(PEERS, |peer| peer.name, &options.peers, "peer")?;
    let named = |peer: &Peer| ["greenserve", "bare"].contains(&peer.name);
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
    let begin = Instant::now();
    let mut bench = Bench {
        options: &options,
        site: &site,
        cpus,
        running: BTreeMap::new(),
        cells: Vec::new(),
        begin,
        done: 0,
        of: rows.iter().map(|row| peers.iter().filter(|peer| peer.measures(*row)).count()).sum(),
    };
    for row in &rows {
        match row.way {
            Way::Keep { .. } | Way::Close { .. } | Way::Latency { .. } => bench.under_load(*row, &peers),
            Way::Idle { .. } | Way::Busy { .. } => {
                bench.running.clear(); // nobody else is to be in the way, or to use up memory
                bench.memory(*row, &peers);
            }
        }
    }
    bench.running.clear();
    let generators = if options.only.is_empty() { bench.generators() } else { Ok(Vec::new()) };
    bench.running.clear();
    let counts = if options.only.is_empty() { bench.counts(&peers) } else { Vec::new() };
    bench.clear_line();
    let cells = std::mem::take(&mut bench.cells);

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
    let report = options.report.clone().unwrap_or_else(|| target.join("marks.html"));
    let figures = options.json.clone().unwrap_or_else(|| target.join("marks.json"));
    write(&report, &page(&results))?;
    write(&figures, &json(&results))?;
    let document = match std::fs::read_to_string(&options.results) {
        Ok(document) => document,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "# Results\n\n## HTTP\n".to_owned(),
        Err(error) => return Err(error),
    };
    write(&options.results, &splice(&document, "marks", &markdown(&results)))?;
    for name in &results.missing {
        println!("{name}: not installed");
    }
    println!(
        "\n{:.0} s; charts: {}, figures: {}, document: {}",
        begin.elapsed().as_secs_f64(),
        report.display(),
        figures.display(),
        options.results.display()
    );
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

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("can't write {}: {error}", path.display())))
}

/// A server that goes on running from row to row, and what its answers look like.
struct Server {
    running: Running,
    answer: Answer,
    request: Vec<u8>,
}

struct Bench<'a> {
    options: &'a Options,
    site: &'a Site,
    cpus: Option<Cpus>,
    /// By name and what is asked for.
    running: BTreeMap<(&'static str, String), Server>,
    cells: Vec<Cell>,
    begin: Instant,
    done: usize,
    of: usize,
}

impl Bench<'_> {
    fn under_load(&mut self, row: Row, peers: &[&'static Peer]) {
        let peers: Vec<_> = peers.iter().filter(|peer| peer.measures(row)).collect();
        let mut cells: Vec<_> = peers.iter().map(|peer| Cell::new(row, peer.name)).collect();
        let mut broken = vec![false; cells.len()];
        for round in 0..self.options.rounds {
            for ((peer, cell), broken) in peers.iter().zip(&mut cells).zip(&mut broken) {
                self.say(row, &format!("{}, round {}", peer.name, round + 1));
                if *broken || peer.slow && round >= ROUNDS_OF_SLOW {
                    continue;
                }
                let outcome = self.round(row, peer, cell, round);
                if let Err(error) = outcome {
                    cell.samples.push(None);
                    cell.fail(error);
                    *broken = true;
                    // whatever has happened to it shall not be felt in the next row
                    self.running.retain(|(name, _), _| *name != peer.name);
                }
            }
        }
        self.done += cells.len();
        self.cells.append(&mut cells);
    }

    fn round(&mut self, row: Row, peer: &'static Peer, cell: &mut Cell, round: u64) -> io::Result<()> {
        let (connections, pace) = match row.way {
            Way::Keep { connections, depth } => (connections, Pace::Closed { depth }),
            Way::Close { connections } => (connections, Pace::Closing),
            Way::Latency { connections } => {
                let peak = self.cells.iter().find(|cell| cell.row.name == PEAK && cell.peer == peer.name);
                let peak = peak
                    .and_then(|cell| cell.of(|sample| sample.rate))
                    .ok_or_else(|| io::Error::other(format!("no peak rate: the row {PEAK} gives it")))?;
                cell.asked_rate = (peak.median * SHARE_OF_PEAK).round();
                (connections, Pace::Open { rate: cell.asked_rate.max(1.0) })
            }
            Way::Idle { .. } | Way::Busy { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        let seconds = self.options.seconds;
        let server = self.server(peer, row)?;
        let warmup = Duration::from_secs_f64(if round == 0 { seconds / 2.0 } else { seconds / 6.0 });
        let spread = if row.name == SPREAD { SLEEP } else { Duration::ZERO };
        let blast = Blast {
            address: server.running.address,
            request: server.request.clone(),
            answer: server.answer,
            connections,
            pace,
            spread,
            warmup: if row.route == Route::Sleep { warmup.max(SLEEP) } else { warmup },
            duration: Duration::from_secs_f64(seconds),
        };
        let (outcome, sample) = fire(&blast, &server.running)?;
        cell.errors += outcome.errors;
        if let Some(error) = outcome.first_error {
            cell.fail(error);
        }
        if let Pace::Open { .. } = pace {
            let at = |quantile| outcome.latencies.value_at_quantile(quantile) as f64 / 1e9;
            cell.latencies.push(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) });
        }
        cell.samples.push(Some(sample));
        Ok(())
    }

    /// Starts it, or takes the one that runs.
    fn server(&mut self, peer: &'static Peer, row: Row) -> io::Result<&Server> {
        let key = (peer.name, peer.key(row));
        if !self.running.contains_key(&key) {
            let running = start(peer, self.site, row, self.cpus)?;
            let server = Server { running, answer: Answer::NONE, request: Vec::new() };
            self.running.insert(key.clone(), server);
        }
        let server = self.running.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        let target = row.route.target(SLEEP.as_millis() as u64);
        server.request = Blast::get(server.running.address, &target, matches!(row.way, Way::Close { .. }));
        server.answer = Answer::learn(server.running.address, &server.request, Some(row.route.length()))?;
        server.running.find_family()?;
        Ok(server)
    }

    fn memory(&mut self, row: Row, peers: &[&'static Peer]) {
        for peer in peers.iter().filter(|peer| peer.measures(row)) {
            self.say(row, peer.name);
            let mut cell = Cell::new(row, peer.name);
            match self.resident(row, peer) {
                Ok(bytes) => cell.bytes = Some(bytes),
                Err(error) => cell.fail(error),
            }
            self.done += 1;
            self.cells.push(cell);
        }
    }

    /// Each in a process of its own, which has done nothing else.
    fn resident(&self, row: Row, peer: &'static Peer) -> io::Result<f64> {
        let mut running = start(peer, self.site, row, self.cpus)?;
        let address = running.address;
        let (connections, busy) = match row.way {
            Way::Idle { connections } => (connections, false),
            Way::Busy { connections } => (connections, true),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let request = Blast::get(address, &row.route.target(1), false);
        let answer = Answer::learn(address, &request, Some(row.route.length()))?;
        running.find_family()?;
        let before = running.resident()?;
        let held = if busy {
            let request = Blast::get(address, &row.route.target(60_000), false);
            hold(address, &request, None, connections, HOLD_PATIENCE)?
        } else {
            hold(address, &request, Some(answer), connections, HOLD_PATIENCE)?
        };
        let after = settled(&running)?;
        let stirred = held.stirred()?;
        if stirred > 0 {
            return Err(io::Error::other(format!("{stirred} of {connections} connections were not kept")));
        }
        Ok((after as f64 - before as f64) / connections as f64)
    }

    /// The load generators beside each other, against bare.
    fn generators(&mut self) -> io::Result<Vec<Generator>> {
        let Some(bare) = PEERS.iter().find(|peer| peer.name == "bare") else { return Ok(Vec::new()) };
        let seconds = self.options.seconds;
        let duration = Duration::from_secs_f64(seconds);
        let Some(row) = ROWS.iter().find(|row| row.name == PEAK) else { return Ok(Vec::new()) };
        let server = self.server(bare, *row)?;
        let address = server.running.address;
        let mut all = Vec::new();

        let blast = Blast {
            address,
            request: server.request.clone(),
            answer: server.answer,
            connections: 64,
            pace: Pace::Closed { depth: 1 },
            spread: Duration::ZERO,
            warmup: duration / 4,
            duration,
        };
        let (_, sample) = fire(&blast, &server.running)?;
        let cpu = sample.client_busy / sample.rate;
        all.push(Generator {
            name: "blast (this program's)",
            rate: sample.rate,
            cpu,
            server_cpu: sample.cpu,
        });

        let mut plan = load::Plan::get(address, "/plaintext", 64);
        (plan.warmup, plan.duration) = (duration / 4, duration);
        let mut looks = Vec::new();
        let tally = load::run(load::Green, plan, |moment| {
            if matches!(moment, load::Moment::Begin | load::Moment::End) {
                looks.push((server.running.cpu()?, own_cpu()?));
            }
            Ok(())
        })?;
        if let [first, last] = looks[..] {
            let answers = tally.successes().max(1) as f64;
            all.push(Generator {
                name: "load (compare's, on green threads)",
                rate: tally.rate(),
                cpu: (last.1 - first.1).as_secs_f64() / answers,
                server_cpu: (last.0 - first.0).as_secs_f64() / answers,
            });
        }
        if let Some(generator) = wrk(address, &server.running, seconds.ceil())? {
            all.push(generator);
        }
        Ok(all)
    }

    /// What needs no clock, for those few that the marks are about.
    fn counts(&self, peers: &[&'static Peer]) -> Vec<(&'static str, Result<Counts, String>)> {
        peers
            .iter()
            .filter(|peer| ["greenserve", "bare", "hyper"].contains(&peer.name))
            .map(|peer| {
                self.tell(&format!("instructions, allocations, system calls: {}", peer.name));
                (peer.name, Counts::of(peer, self.site, self.cpus).map_err(|error| error.to_string()))
            })
            .collect()
    }

    fn say(&self, row: Row, what: &str) {
        self.tell(&format!("{}: {what}", row.title));
    }

    /// One line on a terminal that changes; on anything else a line for each row.
    fn tell(&self, what: &str) {
        let seconds = self.begin.elapsed().as_secs();
        let line = format!("[{}/{}, {seconds} s] {what}", self.done, self.of);
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{line}");
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn clear_line(&self) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// How long the handlers of the row `sleep` sleep.
const SLEEP: Duration = Duration::from_millis(100);

fn start(peer: &Peer, site: &Site, row: Row, cpus: Option<Cpus>) -> io::Result<Running> {
    let (command, address) = peer.command(site, row)?;
    Running::start(command, address, cpus)
}

/// Carries it out and counts both sides' processor time.
fn fire(blast: &Blast, running: &Running) -> io::Result<(Outcome, Sample)> {
    let mut looks = Vec::with_capacity(2);
    let outcome = blast.run(|_: Edge| looks.push(running.cpu().and_then(|cpu| Ok((cpu, own_cpu()?)))))?;
    let mut looks = looks.into_iter();
    let (Some(first), Some(last)) = (looks.next().transpose()?, looks.next().transpose()?) else {
        return Err(io::Error::other("the server was not looked at"));
    };
    if outcome.answers == 0 {
        let why = outcome.first_error.unwrap_or_else(|| "none came in time".to_owned());
        return Err(io::Error::other(format!("no answers: {why}")));
    }
    let sample = Sample::new(outcome.elapsed, outcome.answers, last.0 - first.0, last.1 - first.1);
    Ok((outcome, sample))
}

/// Resident memory once it has stopped growing, looked at for at most three seconds.
fn settled(running: &Running) -> io::Result<u64> {
    let mut before = running.resident()?;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(300));
        let now = running.resident()?;
        if now.abs_diff(before) <= now / 200 {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

/// The usual load generator, where it is installed. Its processor time is looked at shortly before it ends.
fn wrk(address: SocketAddr, running: &Running, seconds: f64) -> io::Result<Option<Generator>> {
    let child = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}"), &format!("http://{address}/plaintext")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else { return Ok(None) };
    let cpu = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id()))?;
        let total: u64 = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum();
        Ok::<_, io::Error>((Duration::from_nanos(total), running.cpu()?, Instant::now()))
    };
    let (first, last) = (
        {
            std::thread::sleep(Duration::from_secs_f64(seconds * 0.2));
            cpu()?
        },
        {
            std::thread::sleep(Duration::from_secs_f64(seconds * 0.6));
            cpu()?
        },
    );
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse::<f64>().ok());
    let elapsed = (last.2 - first.2).as_secs_f64();
    Ok(rate.map(|rate| Generator {
        name: "wrk",
        rate,
        cpu: (last.0 - first.0).as_secs_f64() / elapsed / rate,
        server_cpu: (last.1 - first.1).as_secs_f64() / elapsed / rate,
    }))
}

/// What a reader of the results should know.
fn method(options: &Options, cpus: Option<Cpus>) -> Vec<String> {
    let mut sentences = vec![
        match cpus {
            Some(_) => "The server is bound to one processor, the load generator to another; traffic goes over loopback.".to_owned(),
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
         connections add to a server that has answered one request."
            .to_owned(),
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
    if options.quick {
        sentences.push("A quick look (--quick): expect noise.".to_owned());
    }
    sentences
}
