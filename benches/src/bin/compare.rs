//! Compares a green thread per connection with an OS thread per connection: starts `greenserve` both ways, drives both
//! over rising numbers of connections, prints a table and writes a page with charts.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin compare
//! cargo run --release -p greenserve-benches --bin compare -- --quick
//! ```

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use greenserve_benches::compare::{
    Cpus, Figures, Kind, Load, Machine, Measurement, Server, Usage, build_server, page,
    raise_descriptor_limit, table,
};
use greenserve_benches::load::{Client, Expect, Green, Mode, Moment, Plan, Tally, run};

/// Compare a green thread per connection with an OS thread per connection.
///
/// Starts greenserve with `-k green` and with `-k threads`, drives both over rising numbers of concurrent connections
/// (loopback only), prints a table and writes one HTML page with charts. Takes about three minutes; see --quick.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Options {
    /// Numbers of concurrent connections to measure with
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = [10, 100, 1000, 4000, 10_000])]
    connections: Vec<usize>,

    /// Request targets to measure, each a GET that must be answered by 200
    #[arg(long = "path", value_name = "TARGET", default_values_t = ["/sleep?ms=100".to_owned(), "/plaintext".to_owned()])]
    paths: Vec<String>,

    /// Seconds that each measurement counts
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    seconds: f64,

    /// Seconds under load before each measurement counts
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive)]
    warmup: f64,

    /// Requests sent at once on a connection (pipelining)
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "connection_per_request")]
    depth: usize,

    /// Make a new connection for each request
    #[arg(long)]
    connection_per_request: bool,

    /// Requests per second of the measurements at a fixed rate [default: half of the slower server's peak]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,

    /// Up to 1,000 connections and one second each: for a first look, in about half a minute
    #[arg(long)]
    quick: bool,

    /// Where to write the page
    #[arg(long, value_name = "FILE", default_value = "target/compare.html")]
    report: PathBuf,

    /// The greenserve binary [default: built in the profile of this program]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,

    /// Let servers and load generator share all processors, instead of one processor for each
    #[arg(long)]
    no_pin: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number > 0.0 && number < 1e9 { Ok(number) } else { Err("must be more than 0".into()) }
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        options.connections.retain(|n| *n <= 1000);
        options.seconds = options.seconds.min(1.0);
        options.warmup = options.warmup.min(0.3);
    }
    match compare(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Descriptors that a process needs beside those of its connections.
const SPARE_DESCRIPTORS: u64 = 64;
/// The measurements at a fixed rate use the most connections that are not more than these.
const FIXED_RATE_CONNECTIONS: usize = 1000;
const KINDS: [Kind; 2] = [Kind::Green, Kind::Threads];

/// Gives whether everything could be measured.
fn compare(mut options: Options) -> io::Result<bool> {
    let limit = raise_descriptor_limit()?;
    options.connections.retain(|n| {
        let fits = *n > 0 && *n as u64 + SPARE_DESCRIPTORS <= limit;
        if !fits {
            eprintln!(
                "{n} connections are left out: a process here may open {limit} files (raise the hard limit: ulimit -Hn)"
            );
        }
        fits
    });
    options.connections.sort_unstable();
    options.connections.dedup();
    if options.connections.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no number of connections is left to measure with",
        ));
    }
    let binary = match &options.server {
        Some(binary) => binary.clone(),
        None => {
            eprintln!("building greenserve …");
            build_server()?
        }
    };
    let machine = Machine::here();
    let cpus = if options.no_pin { None } else { Cpus::choose()? };
    if let Some(cpus) = cpus {
        cpus.pin_load()?;
    }

    let fixed_rate_connections =
        options.connections.iter().copied().filter(|n| *n <= FIXED_RATE_CONNECTIONS).max();
    let loads = options.connections.len() + fixed_rate_connections.map_or(0, |_| 1);
    let mut progress =
        Progress { done: 0, of: options.paths.len() * loads * KINDS.len(), line: String::new() };
    let each = options.seconds + options.warmup + 1.0;
    eprintln!("{} measurements, about {:.0} seconds", progress.of, each * progress.of as f64);

    let mut all = Vec::new();
    for target in &options.paths {
        for &connections in &options.connections {
            for kind in KINDS {
                let cell = Cell { kind, target, connections, load: Load::Closed };
                all.push(cell.measure(&binary, &options, cpus, &mut progress));
            }
        }
    }
    for target in &options.paths {
        let Some(connections) = fixed_rate_connections else { break };
        let peaks = all.iter().filter(|m| m.target == *target && m.connections == connections);
        let slower = peaks.filter_map(|m| Some(m.outcome.as_ref().ok()?.rate)).fold(f64::MAX, f64::min);
        let Some(rate) = options.rate.or((slower > 0.0 && slower < f64::MAX).then_some(slower / 2.0)) else {
            continue;
        };
        for kind in KINDS {
            let cell = Cell { kind, target, connections, load: Load::Open(rate.round().max(1.0)) };
            all.push(cell.measure(&binary, &options, cpus, &mut progress));
        }
    }
    progress.clear();

    print!("{}", table(&all));
    let command = std::env::args().skip(1).fold("compare".to_owned(), |command, word| command + " " + &word);
    let page = page(&machine, &command, &method(&options, cpus), &all);
    if let Some(directory) = options.report.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&options.report, page).map_err(|error| {
        io::Error::new(error.kind(), format!("can't write {}: {error}", options.report.display()))
    })?;
    println!("\ncharts: {}", std::path::absolute(&options.report)?.display());
    Ok(all.iter().all(|m| m.outcome.is_ok()))
}

/// What is measured next.
struct Cell<'a> {
    kind: Kind,
    target: &'a str,
    connections: usize,
    load: Load,
}

impl Cell<'_> {
    fn measure(
        self,
        binary: &Path,
        options: &Options,
        cpus: Option<Cpus>,
        progress: &mut Progress,
    ) -> Measurement {
        progress.next(format!("{}, {}, {} connections", self.target, self.kind, self.connections));
        let outcome = self.figures(binary, options, cpus, progress).map_err(|error| error.to_string());
        Measurement {
            kind: self.kind,
            target: self.target.to_owned(),
            connections: self.connections,
            load: self.load,
            outcome,
        }
    }

    /// A server of its own for each measurement, so that none inherits what the one before has grown to.
    fn figures(
        &self,
        binary: &Path,
        options: &Options,
        cpus: Option<Cpus>,
        progress: &mut Progress,
    ) -> io::Result<Figures> {
        let server = Server::start(binary, self.kind, self.connections, cpus)?;
        let idle = server.usage()?;
        let plan = self.plan(server.address(), options)?;

        let mut usage = Watched::default();
        let begin = Instant::now();
        let tally = run(Green, plan, |moment| {
            match moment {
                Moment::Connecting(number) => progress.show(&format!("{number} connected")),
                Moment::Measuring(answers) => {
                    let seconds = begin.elapsed().as_secs_f64();
                    progress.show(&format!("{answers} answers, {seconds:.1} s"));
                }
                Moment::Begin | Moment::End => {}
            }
            let now = server.usage()?;
            if !matches!(moment, Moment::Connecting(_)) {
                usage.add(now);
            }
            Ok(())
        })?;
        Ok(usage.figures(idle, &tally))
    }

    fn plan(&self, address: SocketAddr, options: &Options) -> io::Result<Plan> {
        let make = if options.connection_per_request { Plan::get_closing } else { Plan::get };
        let mut plan = make(address, self.target, self.connections);
        plan.expect = first_answer(&plan)?;
        plan.depth = options.depth;
        plan.warmup = Duration::from_secs_f64(options.warmup);
        plan.duration = Duration::from_secs_f64(options.seconds);
        if let Load::Open(rate) = self.load {
            plan.mode = Mode::Open { rate };
        }
        Ok(plan)
    }
}

/// Asks once, to know what all answers must look like: 200, and as long as this one.
fn first_answer(plan: &Plan) -> io::Result<Expect> {
    let stream = TcpStream::connect_timeout(&plan.address, plan.timeout)?;
    stream.set_read_timeout(Some(plan.timeout))?;
    let mut client = Client::new(stream);
    let answer = client.send(&plan.request).and_then(|()| client.receive());
    let answer =
        answer.map_err(|failure| io::Error::other(format!("the first request failed: {failure}")))?;
    match answer.status {
        200 => Ok(Expect { status: 200, length: Some(answer.body_length) }),
        status => Err(io::Error::other(format!("the first request was answered by {status}, not 200"))),
    }
}

/// The kernel counts processor time in steps of 10 ms: less than this says nothing.
const SHORTEST_CPU: Duration = Duration::from_millis(100);

/// What the server process was seen to use while it was measured.
#[derive(Default)]
struct Watched {
    first: Option<Usage>,
    last: Option<Usage>,
    threads: u64,
    resident: u64,
}

impl Watched {
    fn add(&mut self, usage: Usage) {
        self.first.get_or_insert(usage);
        self.last = Some(usage);
        self.threads = self.threads.max(usage.threads);
        self.resident = self.resident.max(usage.resident);
    }

    fn figures(self, idle: Usage, tally: &Tally) -> Figures {
        let cpu = self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last.cpu - first.cpu);
        let cpu_known = cpu >= SHORTEST_CPU && tally.successes() > 0;
        Figures {
            rate: tally.rate(),
            latency: tally.percentiles(),
            threads: self.threads,
            resident: self.resident,
            resident_idle: idle.resident,
            cpu_per_request: cpu_known.then(|| cpu.div_f64(tally.successes() as f64)),
            failures: tally.failures().map(|(failure, times)| (failure.to_string(), times)).collect(),
        }
    }
}

/// What a reader of the page should know.
fn method(options: &Options, cpus: Option<Cpus>) -> Vec<String> {
    let mut sentences = vec![
        "Each measurement has a server process of its own, started for it and stopped after it.".to_owned(),
        match cpus {
            Some(_) => "The server is bound to one processor, the load generator to another: neither takes the other's time, and \
                        an OS thread per connection gets no more processors than green threads do."
                .to_owned(),
            None => "Server and load generator share all processors.".to_owned(),
        },
        "The load generator keeps its connections on green threads in one OS thread. Traffic goes over loopback.".to_owned(),
        format!(
            "{} s under load before anything counts, {} s that count.",
            options.warmup, options.seconds
        ),
        if options.connection_per_request {
            "Each request has a new connection; its latency includes the making of it.".to_owned()
        } else {
            format!("Connections are kept alive, {} request(s) under way on each (closed loop).", options.depth)
        },
        "In closed loop a latency tells how long the queue of all connections is: with N of them under way and R answers a \
         second the mean is N/R. The latency that a server adds shows at a fixed rate."
            .to_owned(),
        "Every answer's status and length are checked. Failed requests count as failed and not towards any other figure."
            .to_owned(),
        "Resident memory, threads and processor time are those of the server process, from /proc/PID/status and /proc/PID/stat: \
         the most seen in ten looks a second. Memory per connection is what came on top of the server at rest. Where the server used \
         less than a tenth of a second of processor time, its time per request can't be told."
            .to_owned(),
    ];
    if options.quick {
        sentences.push("A quick look (--quick): expect noise.".to_owned());
    }
    sentences
}

/// One line on the terminal that says where things stand; on anything else a line for each measurement.
struct Progress {
    done: usize,
    of: usize,
    line: String,
}

impl Progress {
    fn next(&mut self, what: String) {
        self.done += 1;
        self.line = format!("[{}/{}] {what}", self.done, self.of);
        if io::stderr().is_terminal() {
            self.show("starting");
        } else {
            eprintln!("{}", self.line);
        }
    }

    fn show(&self, state: &str) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{}: {state}", self.line);
            let _ = io::stderr().flush();
        }
    }

    fn clear(&self) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
