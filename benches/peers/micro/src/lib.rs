//! What the peers share: the command line, the clock and the line that each benchmark prints.
//!
//! A program is called with the name of one benchmark (and, for `parked`, a number) and prints one line of JSON:
//! `{"runtime":"…","figures":{"ns":12.3}}`. What each benchmark does is told in `benches/src/runtime_marks/ours.rs`. Time is
//! processor time of the whole process, in user and in kernel mode.

pub mod blocking;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

/// Length of a message of the echo benchmarks, in bytes.
pub const MESSAGE: usize = 64;
/// Length of the buffers that messages are read into.
pub const BUFFER: usize = 1024;
/// How many timers are due within a second.
pub const TIMERS: u64 = 100_000;
/// How many timers are pending while others are set and cancelled.
pub const PENDING: usize = 1_000_000;
/// Longer than any benchmark takes.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a benchmark found: names and values.
pub type Figures = Vec<(&'static str, f64)>;

/// A benchmark of this program.
pub type Bench = (&'static str, fn(usize) -> Figures);

/// Runs the benchmark that the command line names.
pub fn main(runtime: &str, benches: &[Bench]) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let Some((_, bench)) = benches.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = benches.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no benchmark `{name}` here; there are {}", known.join(", "));
        return ExitCode::from(2);
    };
    let figures: Vec<_> = bench(count).iter().map(|(name, value)| format!("\"{name}\":{value:.6}")).collect();
    println!("{{\"runtime\":\"{runtime}{}\",\"figures\":{{{}}}}}", version(runtime), figures.join(","));
    ExitCode::SUCCESS
}

/// A space and the version of the crate of this name; nothing if there is none.
fn version(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let package = format!("name = \"{name}\"\nversion = \"");
    let version = lock.split_once(&package).and_then(|(_, rest)| rest.split_once('"'));
    version.map_or_else(String::new, |(version, _)| format!(" {version}"))
}

/// Processor time that this process has used, in seconds.
pub fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The figure of a benchmark that did something `times` times since `start`, a reading of [`cpu`].
pub fn ns(start: f64, times: u64) -> Figures {
    vec![("ns", (cpu() - start) * 1e9 / times as f64)]
}

/// When the timer with this number is due.
pub fn due(number: u64) -> Duration {
    // spread over the second, out of order
    Duration::from_micros(number * 7_919 % TIMERS * 1_000_000 / TIMERS)
}

/// Time and memory before many greenlets are parked.
pub struct Footprint {
    start: f64,
    resident: u64,
}

impl Footprint {
    /// Now.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Footprint {
        Footprint { start: cpu(), resident: resident() }
    }

    /// What each of `count` took since.
    pub fn of_each(&self, count: usize) -> Figures {
        let seconds = cpu() - self.start;
        vec![("bytes", (resident() - self.resident) as f64 / count as f64), ("seconds", seconds)]
    }
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has numbers");
    pages * rustix::param::page_size() as u64
}
