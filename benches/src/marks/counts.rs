//! What a request takes that can be counted and needs no clock: instructions, allocations, system calls.
//!
//! Each is the slope between two numbers of requests, so that what a server does once doesn't count. The tools are
//! valgrind and strace; the requests are a fixed script.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::peers::{Peer, Site};
use super::process::Running;
use super::rows::{PEAK, ROWS};
use crate::blast::Answer;
use crate::compare::Cpus;

/// Of one server, for each keep-alive request to `/plaintext`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// User-space instructions (callgrind); one connection, so that each request is waited for.
    pub instructions: f64,
    /// Heap allocations (memcheck); the same requests.
    pub allocations: f64,
    /// System calls (strace), by name; requests on sixteen connections at once.
    pub system_calls: BTreeMap<String, f64>,
}

const FEW: usize = 160;
const MANY: usize = 1120;
const AT_ONCE: usize = 16;
/// Before each request on a single connection: a server that already waits always does the same, while one that finds the next
/// request at once or not, as the clock has it, takes one way or another.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

impl Counts {
    /// Counts for one server, ours without a master. It takes some seconds for each tool.
    ///
    /// # Errors
    ///
    /// If the server, valgrind or strace can't be run, or the server doesn't answer as it should.
    pub fn of(peer: &Peer, site: &Site, cpus: Option<Cpus>) -> io::Result<Counts> {
        let site = &Site { workers: 0, ..site.clone() };
        let out = site.installed.join(format!("count-{}", std::process::id()));
        let slope = |tool: &Tool, at_once| -> io::Result<BTreeMap<String, f64>> {
            let mut runs = Vec::with_capacity(2);
            for requests in [FEW, MANY] {
                let counted = run(tool, peer, site, cpus, &out, requests, at_once);
                let _ = fs::remove_file(&out);
                runs.push(counted?);
            }
            Ok(slopes(&runs[0], &runs[1], (MANY - FEW) as f64))
        };
        let one = |counted: BTreeMap<String, f64>| counted.into_values().sum();
        Ok(Counts {
            instructions: one(slope(&CALLGRIND, 1)?),
            allocations: one(slope(&MEMCHECK, 1)?),
            system_calls: slope(&STRACE, AT_ONCE)?,
        })
    }

    /// All system calls together.
    pub fn all_system_calls(&self) -> f64 {
        self.system_calls.values().sum()
    }

    /// The system calls in words, the most frequent first; what is rarer than one in two hundred requests is left out.
    pub fn system_calls_in_words(&self) -> String {
        let mut calls: Vec<_> = self.system_calls.iter().filter(|call| *call.1 >= 0.005).collect();
        calls.sort_by(|a, b| b.1.total_cmp(a.1));
        calls.iter().map(|(name, number)| format!("{name} {number:.2}")).collect::<Vec<_>>().join(", ")
    }
}

/// A program that runs the server and counts.
struct Tool {
    /// Its command line up to the server's. `@OUT@` is the file that it writes.
    command: &'static [&'static str],
    read: fn(&str) -> Option<BTreeMap<String, f64>>,
}

const CALLGRIND: Tool = Tool {
    command: &["valgrind", "-q", "--tool=callgrind", "--callgrind-out-file=@OUT@"],
    read: instructions,
};
const MEMCHECK: Tool =
    Tool { command: &["valgrind", "--undef-value-errors=no", "--log-file=@OUT@"], read: allocations };
const STRACE: Tool = Tool { command: &["strace", "-c", "-f", "-o", "@OUT@"], read: system_calls };

fn run(
    tool: &Tool,
    peer: &Peer,
    site: &Site,
    cpus: Option<Cpus>,
    out: &Path,
    requests: usize,
    at_once: usize,
) -> io::Result<BTreeMap<String, f64>> {
    let row = ROWS.iter().find(|row| row.name == PEAK).ok_or(io::ErrorKind::NotFound)?;
    let (server, address) = peer.command(site, *row)?;
    let words = tool.command.iter().map(|word| word.replace("@OUT@", &out.display().to_string()));
    let mut words = words.collect::<Vec<_>>().into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let running = Running::start(command, address, cpus)?;
    ask(address, requests, at_once)?;
    running.finish()?;
    let text = fs::read_to_string(out)?;
    (tool.read)(&text).ok_or_else(|| {
        let (name, says) = (tool.command[0], text.lines().next().unwrap_or_default());
        io::Error::other(format!("{name} has counted nothing; its output begins: {says}"))
    })
}

/// The script: in turn a request that says no more than it has to and one that says what a browser says; in rounds, each of
/// which has one request on each connection.
fn ask(address: SocketAddr, requests: usize, at_once: usize) -> io::Result<()> {
    let short = format!("GET /plaintext HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
    let usual = format!(
        "GET /plaintext HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
         Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\r\n"
    )
    .into_bytes();
    let answer = Answer::learn(address, &short, Some(13))?;
    let mut buffer = vec![0; answer.length().ok_or(io::ErrorKind::Unsupported)?];
    let mut streams = Vec::with_capacity(at_once);
    for _ in 0..at_once {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
    }
    for round in 0..requests / at_once {
        let request = if round % 2 == 0 { &short } else { &usual };
        if at_once == 1 {
            std::thread::sleep(PAUSE);
        }
        for stream in &mut streams {
            stream.write_all(request)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut buffer)?;
            if !buffer.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other("not the expected answer"));
            }
        }
    }
    Ok(())
}

fn slopes(few: &BTreeMap<String, f64>, many: &BTreeMap<String, f64>, requests: f64) -> BTreeMap<String, f64> {
    let slope = |(name, number): (&String, &f64)| {
        (name.clone(), (number - few.get(name).copied().unwrap_or(0.0)) / requests)
    };
    many.iter().map(slope).map(|(name, slope)| (name, slope.max(0.0))).collect()
}

/// Out of callgrind's output file.
fn instructions(text: &str) -> Option<BTreeMap<String, f64>> {
    let line =
        text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")))?;
    Some(BTreeMap::from([("instructions".to_owned(), line.trim().parse().ok()?)]))
}

/// Out of memcheck's log: `total heap usage: 1,234 allocs, …`.
fn allocations(text: &str) -> Option<BTreeMap<String, f64>> {
    let number = text.split_once("total heap usage:")?.1.split_once(" allocs")?.0.trim().replace(',', "");
    Some(BTreeMap::from([("allocations".to_owned(), number.parse().ok()?)]))
}

/// Out of strace's table: time, seconds, microseconds each, calls, perhaps errors, name.
fn system_calls(text: &str) -> Option<BTreeMap<String, f64>> {
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (Some(number), Some(name)) = (words.get(3).and_then(|number| number.parse().ok()), words.last())
        else {
            continue;
        };
        if *name != "total" {
            calls.insert((*name).to_owned(), number);
        }
    }
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn the_tools_outputs_are_read() {
        let callgrind =
            "# callgrind format\nevents: Ir\nsummary: 123456\n\nfn=(1) main\n1 5\ntotals: 123456\n";
        assert_eq!(instructions(callgrind), Some(map(&[("instructions", 123_456.0)])));
        let memcheck =
            "==7== HEAP SUMMARY:\n==7==   total heap usage: 1,234 allocs, 1,200 frees, 5 bytes allocated\n";
        assert_eq!(allocations(memcheck), Some(map(&[("allocations", 1234.0)])));
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
                      ------ ----------- ----------- --------- --------- ----------------\n \
                      60.00    0.000010           5      1200           sendto\n \
                      40.00    0.000010           5      1300        12 recvfrom\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.000020           5      2500        12 total\n";
        assert_eq!(system_calls(strace), Some(map(&[("recvfrom", 1300.0), ("sendto", 1200.0)])));
        assert_eq!((instructions(""), allocations(""), system_calls("")), (None, None, None));
    }

    #[test]
    fn what_is_done_once_does_not_count() {
        let slopes =
            slopes(&map(&[("read", 100.0), ("brk", 3.0)]), &map(&[("read", 300.0), ("brk", 3.0)]), 100.0);
        assert_eq!(slopes, map(&[("read", 2.0), ("brk", 0.0)]));
    }
}
