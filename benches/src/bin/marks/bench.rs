//! The measurements, in the order in which they are made.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use greenserve_benches::blast::{Answer, Blast, Edge, Held, Outcome, Pace, hold};
use greenserve_benches::compare::Cpus;
use greenserve_benches::marks::{
    CONNECTIONS, Cell, Counts, HELD, Latency, PEAK, Peer, Point, Route, Row, Running, SPREAD, Sample, Site,
    WORKERS, Way, own_cpu,
};

use crate::Options;

/// Only this many rounds for those who are far behind anyway.
pub(crate) const ROUNDS_OF_SLOW: u64 = 2;
/// Share of the peak rate at which latencies are measured.
pub(crate) const SHARE_OF_PEAK: f64 = 0.7;
/// Longest time to make the connections that are to be held.
const HOLD_PATIENCE: Duration = Duration::from_secs(25);
/// With how many connections a quick look is taken.
const QUICK_CONNECTIONS: &[usize] = &[1, 64, 1000];
/// At most so long for each number of connections, in seconds.
pub(crate) const SECONDS_OF_POINT: f64 = 0.5;
/// Time that is given for each connection to be accepted.
const TO_ACCEPT: Duration = Duration::from_micros(50);
const TO_ACCEPT_SLOWLY: Duration = Duration::from_micros(200);

/// A server that goes on running from row to row, and what its answers look like.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) answer: Answer,
    pub(crate) request: Vec<u8>,
}

pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    site: &'a Site,
    cpus: Option<Cpus>,
    /// By name and what is asked for.
    running: BTreeMap<(&'static str, String), Server>,
    cells: Vec<Cell>,
    /// By name: what idle connections take, which all rows about them share.
    held: BTreeMap<&'static str, Result<Idle, String>>,
    pub(crate) begin: Instant,
    done: usize,
    of: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(options: &'a Options, site: &'a Site, cpus: Option<Cpus>) -> Bench<'a> {
        Bench {
            options,
            site,
            cpus,
            running: BTreeMap::new(),
            cells: Vec::new(),
            held: BTreeMap::new(),
            begin: Instant::now(),
            done: 0,
            of: 0,
        }
    }

    /// Measures all rows and gives what came of them.
    pub(crate) fn rows(&mut self, rows: &[Row], peers: &[&'static Peer]) -> Vec<Cell> {
        self.of = rows.iter().map(|row| peers.iter().filter(|peer| peer.measures(*row)).count()).sum();
        let most_idle = rows.iter().filter_map(|row| match row.way {
            Way::Idle { connections } => Some(connections),
            _ => None,
        });
        let most_idle = most_idle.max().unwrap_or_default();
        for row in rows {
            match row.way {
                Way::Keep { .. } | Way::Close { .. } | Way::Latency { .. } => self.under_load(*row, peers),
                Way::Connections => self.connections(*row, peers),
                Way::Idle { .. } | Way::Busy { .. } => {
                    self.rest(); // nobody else is to be in the way, or to use up memory
                    self.memory(*row, peers, most_idle);
                }
            }
        }
        self.rest();
        std::mem::take(&mut self.cells)
    }

    /// Ends all servers that go on running.
    pub(crate) fn rest(&mut self) {
        self.running.clear();
    }

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
            Way::Connections | Way::Idle { .. } | Way::Busy { .. } => {
                return Err(io::ErrorKind::Unsupported.into());
            }
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
            match &mut cell.distribution {
                Some(all) => all.add(&outcome.latencies).map_err(io::Error::other)?,
                none => *none = Some(outcome.latencies.clone()),
            }
            cell.latencies.push(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) });
        }
        cell.samples.push(Some(sample));
        Ok(())
    }

    /// One short round with each number of connections; the servers take turns.
    fn connections(&mut self, row: Row, peers: &[&'static Peer]) {
        let peers: Vec<_> = peers.iter().copied().filter(|peer| peer.measures(row)).collect();
        let mut cells: Vec<_> = peers.iter().map(|peer| Cell::new(row, peer.name)).collect();
        let quick = self.options.quick;
        for &connections in
            CONNECTIONS.iter().filter(|&&number| !quick || QUICK_CONNECTIONS.contains(&number))
        {
            for (peer, cell) in peers.iter().zip(&mut cells) {
                self.say(row, &format!("{}, {connections}", peer.name));
                if cell.points.iter().any(|point| point.outcome.is_err()) {
                    continue;
                }
                let outcome = self.point(row, peer, cell, connections).map_err(|error| error.to_string());
                if outcome.is_err() {
                    self.running.retain(|(name, _), _| *name != peer.name);
                }
                cell.points.push(Point { connections, outcome });
            }
        }
        self.done += cells.len();
        self.cells.append(&mut cells);
    }

    fn point(
        &mut self,
        row: Row,
        peer: &'static Peer,
        cell: &mut Cell,
        connections: usize,
    ) -> io::Result<Sample> {
        let seconds = self.options.seconds.min(SECONDS_OF_POINT);
        let to_accept = if peer.slow { TO_ACCEPT_SLOWLY } else { TO_ACCEPT };
        let server = self.server(peer, row)?;
        let blast = Blast {
            address: server.running.address,
            request: server.request.clone(),
            answer: server.answer,
            connections,
            pace: Pace::Closed { depth: 1 },
            spread: Duration::ZERO,
            // each has to be accepted first
            warmup: Duration::from_secs_f64(seconds / 3.0) + to_accept * connections as u32,
            duration: Duration::from_secs_f64(seconds),
        };
        let (outcome, sample) = fire(&blast, &server.running)?;
        cell.errors += outcome.errors;
        match outcome.first_error {
            Some(error) => Err(io::Error::other(error)),
            None => Ok(sample),
        }
    }

    /// Starts it, or takes the one that runs.
    pub(crate) fn server(&mut self, peer: &'static Peer, row: Row) -> io::Result<&Server> {
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

    fn memory(&mut self, row: Row, peers: &[&'static Peer], most_idle: usize) {
        for peer in peers.iter().filter(|peer| peer.measures(row)) {
            self.say(row, peer.name);
            let mut cell = Cell::new(row, peer.name);
            let outcome = match row.way {
                Way::Idle { connections } => {
                    if !self.held.contains_key(peer.name) {
                        let idle = self.idle(row, peer, most_idle).map_err(|error| error.to_string());
                        self.held.insert(peer.name, idle);
                    }
                    self.held[peer.name].clone().and_then(|idle| {
                        cell.resident = idle.resident.clone();
                        cell.resident.retain(|at| at.0 <= connections);
                        idle.each(connections)
                    })
                }
                Way::Busy { connections } => {
                    self.busy(row, peer, connections).map_err(|error| error.to_string())
                }
                _ => Err(io::Error::from(io::ErrorKind::Unsupported).to_string()),
            };
            match outcome {
                Ok(bytes) => cell.bytes = Some(bytes),
                Err(error) => cell.fail(error),
            }
            self.done += 1;
            self.cells.push(cell);
        }
    }

    /// More and more connections on one server that has done nothing else.
    fn idle(&self, row: Row, peer: &'static Peer, most: usize) -> io::Result<Idle> {
        let (running, answer) = self.fresh(row, peer)?;
        let before = running.resident()?;
        let request = Blast::get(running.address, &row.route.target(1), false);
        let mut held = hold(running.address, &request, Some(answer), 0, HOLD_PATIENCE)?;
        let mut idle = Idle { before, resident: Vec::new(), broken: None };
        let stages = HELD.iter().copied().filter(|&number| number < most).chain([most]);
        for connections in stages {
            let grown = held.grow(connections, HOLD_PATIENCE).and_then(|()| {
                let resident = settled(&running)?;
                kept(&held, connections).map(|()| resident)
            });
            match grown {
                Ok(resident) => idle.resident.push((connections, resident)),
                Err(error) => {
                    idle.broken = Some(error.to_string());
                    break;
                }
            }
        }
        Ok(idle)
    }

    fn busy(&self, row: Row, peer: &'static Peer, connections: usize) -> io::Result<f64> {
        let (running, _) = self.fresh(row, peer)?;
        let before = running.resident()?;
        let request = Blast::get(running.address, &row.route.target(60_000), false);
        let held = hold(running.address, &request, None, connections, HOLD_PATIENCE)?;
        let after = settled(&running)?;
        kept(&held, connections)?;
        Ok((after as f64 - before as f64) / connections as f64)
    }

    /// A process of its own that has answered one request, and what its answer looks like.
    fn fresh(&self, row: Row, peer: &'static Peer) -> io::Result<(Running, Answer)> {
        let mut running = start(peer, self.site, row, self.cpus)?;
        let request = Blast::get(running.address, &row.route.target(1), false);
        let answer = Answer::learn(running.address, &request, Some(row.route.length()))?;
        running.find_family()?;
        Ok((running, answer))
    }

    /// What needs no clock, for those few that the marks are about.
    pub(crate) fn counts(&self, peers: &[&'static Peer]) -> Vec<(&'static str, Result<Counts, String>)> {
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

    pub(crate) fn clear_line(&self) {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// What idle connections take on one server, from few to many.
#[derive(Clone, Debug)]
struct Idle {
    /// Resident bytes without any.
    before: u64,
    /// Numbers of connections, and the resident bytes at each.
    resident: Vec<(usize, u64)>,
    /// Why there are no more.
    broken: Option<String>,
}

impl Idle {
    /// Bytes that each of so many adds.
    fn each(&self, connections: usize) -> Result<f64, String> {
        match self.resident.iter().find(|at| at.0 == connections) {
            Some((_, bytes)) => Ok((*bytes as f64 - self.before as f64) / connections as f64),
            None => Err(self.broken.clone().unwrap_or_else(|| "not measured".to_owned())),
        }
    }
}

fn kept(held: &Held, connections: usize) -> io::Result<()> {
    match held.stirred()? {
        0 => Ok(()),
        stirred => Err(io::Error::other(format!("{stirred} of {connections} connections were not kept"))),
    }
}

/// How long the handlers of the row `sleep` sleep.
const SLEEP: Duration = Duration::from_millis(100);

fn start(peer: &Peer, site: &Site, row: Row, cpus: Option<Cpus>) -> io::Result<Running> {
    let (command, address) = peer.command(site, row)?;
    let cpus = if row.name == WORKERS { cpus.map(Cpus::for_several) } else { cpus };
    match peer.workers(site) {
        0 => Running::start(command, address, cpus),
        _ => Running::start_master(command, address, cpus),
    }
}

/// Carries it out and counts both sides' processor time.
pub(crate) fn fire(blast: &Blast, running: &Running) -> io::Result<(Outcome, Sample)> {
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
