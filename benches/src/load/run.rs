//! A run: so many clients, for so long, in closed or open loop.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::client::{Client, Expect, Failure};
use super::tally::Tally;
use super::world::World;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Each connection sends when its last request is answered.
    Closed,
    /// Requests are due at a fixed rate over all connections; latencies count from the moment they are due.
    Open {
        /// Requests per second, over all connections.
        rate: f64,
    },
}

/// What to do to a server. [`Plan::get`] gives a sensible one to change.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The bytes of one request.
    pub request: Vec<u8>,
    /// What a good answer is.
    pub expect: Expect,
    /// Connections at once.
    pub connections: usize,
    /// Requests sent at once on a connection before the answers are read (pipelining). Closed loop only.
    pub depth: usize,
    /// A new connection for each request. Its making counts as part of the latency. One request each, whatever `depth` says.
    pub connection_per_request: bool,
    /// When requests are sent.
    pub mode: Mode,
    /// Time under load before anything counts, after all connections are made.
    pub warmup: Duration,
    /// Time that counts.
    pub duration: Duration,
    /// End earlier, after this many requests.
    pub max_requests: Option<u64>,
    /// Bound of each connect, read and write.
    pub timeout: Duration,
}

impl Plan {
    /// `GET target` on keep-alive connections in closed loop, answered by 200; one second of warm-up, five that count,
    /// ten to wait for an answer.
    pub fn get(address: SocketAddr, target: &str, connections: usize) -> Plan {
        Plan {
            address,
            request: format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes(),
            expect: Expect { status: 200, length: None },
            connections,
            depth: 1,
            connection_per_request: false,
            mode: Mode::Closed,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            max_requests: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// The same with a new connection for each request, which the server is asked to close.
    pub fn get_closing(address: SocketAddr, target: &str, connections: usize) -> Plan {
        Plan {
            request: format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                .into_bytes(),
            connection_per_request: true,
            ..Plan::get(address, target, connections)
        }
    }
}

/// Moments of a run, told to its observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Connections are being made, so many so far.
    Connecting(usize),
    /// Measuring begins.
    Begin,
    /// About ten times a second while it is measured, with the good answers so far.
    Measuring(u64),
    /// Measuring has ended; the connections are still there.
    End,
}

/// Carries out the plan and gives what was measured. Takes the plan's times plus that of connecting (at most a
/// minute), and at the end at most `timeout` and two seconds more.
///
/// `observe` runs on the calling thread or green thread, beside the clients. If it gives an error, such as that the
/// server has ended, the run ends with that.
///
/// # Errors
///
/// If a connection can't be made to begin with, or a client not be started, or what `observe` says.
pub fn run<W: World>(
    world: W,
    plan: Plan,
    mut observe: impl FnMut(Moment) -> io::Result<()>,
) -> io::Result<Tally> {
    let batch = plan.request.repeat(if plan.connection_per_request { 1 } else { plan.depth.max(1) });
    let run = Arc::new(Run {
        plan,
        batch,
        window: OnceLock::new(),
        stop: AtomicBool::new(false),
        tickets: AtomicU64::new(0),
        tally: Mutex::default(),
    });
    let mut clients = Vec::with_capacity(run.plan.connections);
    let window = run
        .start_clients(world, &mut clients, &mut observe)
        .and_then(|()| run.measure(world, &mut observe))
        .inspect_err(|_| run.stop.store(true, Relaxed));
    let unfinished = world.join_all(clients, run.plan.timeout + LATE + Duration::from_secs(1));
    let window = window?;
    let mut tally = run.tally().clone();
    tally.failure(Failure::Unfinished, unfinished as u64);
    if run.stop.load(Relaxed) {
        tally.measured = window.from.elapsed(); // ended early: when the last answer came
    }
    Ok(tally)
}

/// After so many connections the server gets a millisecond to take them: a listener's backlog that runs over costs a
/// second.
const CONNECTING_AT_ONCE: usize = 64;
const LONGEST_CONNECTING: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(100);

/// In open loop: how long after the end requests are still sent that were due before it.
const LATE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Window {
    /// Requests are due from here on (open loop).
    begin: Instant,
    /// What happens from here …
    from: Instant,
    /// … to here counts.
    until: Instant,
}

/// What one client works with.
struct Connection<S> {
    client: Option<Client<S>>,
    /// How long to wait after the next attempt to connect that fails.
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What all clients of a run share.
struct Run {
    plan: Plan,
    /// The request, `depth` times over.
    batch: Vec<u8>,
    window: OnceLock<Window>,
    /// The requests that `max_requests` allows are sent, or the run is given up.
    stop: AtomicBool,
    /// Requests begun: in closed loop those that count, in open loop all.
    tickets: AtomicU64,
    tally: Mutex<Tally>,
}

impl Run {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_clients<W: World>(
        self: &Arc<Run>,
        world: W,
        clients: &mut Vec<W::Handle>,
        observe: &mut impl FnMut(Moment) -> io::Result<()>,
    ) -> io::Result<()> {
        let all = self.plan.connections;
        let (start, mut told) = (Instant::now(), Instant::now());
        let mut streams = Vec::with_capacity(all);
        // First all connections, then the clients: these would take the processor from those still to connect.
        for number in 0..if self.plan.connection_per_request { 0 } else { all } {
            if start.elapsed() > LONGEST_CONNECTING {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("only {number} of {all} connections in {} s", LONGEST_CONNECTING.as_secs()),
                ));
            }
            let stream = world.connect(self.plan.address, self.plan.timeout);
            streams.push(stream.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("connection {number} of {all} to {}: {error}", self.plan.address),
                )
            })?);
            if (number + 1) % CONNECTING_AT_ONCE == 0 {
                world.sleep(Duration::from_millis(1));
            }
            if told.elapsed() > TICK {
                told = Instant::now();
                observe(Moment::Connecting(number))?;
            }
        }
        let mut streams = streams.into_iter();
        for number in 0..all {
            let theirs = Arc::clone(self);
            let client = world.spawn(streams.next(), move |stream| theirs.client(world, stream));
            clients.push(client.map_err(|error| {
                io::Error::new(error.kind(), format!("can't start client {number} of {all}: {error}"))
            })?);
        }
        Ok(())
    }

    /// Lets the clients run for the time of the plan.
    fn measure<W: World>(
        &self,
        world: W,
        observe: &mut impl FnMut(Moment) -> io::Result<()>,
    ) -> io::Result<Window> {
        let begin = Instant::now();
        let from = begin + self.plan.warmup;
        let window = Window { begin, from, until: from + self.plan.duration };
        let window = *self.window.get_or_init(|| window);
        world.sleep(self.plan.warmup);
        observe(Moment::Begin)?;
        loop {
            let now = Instant::now();
            if now >= window.until || self.stop.load(Relaxed) {
                self.tally().measured = self.plan.duration;
                observe(Moment::End)?;
                return Ok(window);
            }
            let answers = self.tally().successes();
            observe(Moment::Measuring(answers))?;
            world.sleep(TICK.min(window.until - now));
        }
    }

    fn client<W: World>(&self, world: W, stream: Option<W::Stream>) {
        let connection = Connection { client: stream.map(Client::new), pause: FIRST_PAUSE };
        match self.plan.mode {
            Mode::Closed => self.closed_loop(world, connection),
            Mode::Open { rate } => self.open_loop(world, connection, rate),
        }
    }

    fn closed_loop<W: World>(&self, world: W, mut connection: Connection<W::Stream>) {
        let batch = if self.plan.connection_per_request { 1 } else { self.plan.depth.max(1) as u64 };
        loop {
            let now = Instant::now();
            let window = self.window.get();
            if self.stop.load(Relaxed) || window.is_some_and(|w| now >= w.until) {
                return;
            }
            if let Some(limit) = self.plan.max_requests
                && window.is_some_and(|w| now >= w.from)
            {
                let before = self.tickets.fetch_add(batch, Relaxed);
                if before + batch >= limit {
                    self.stop.store(true, Relaxed);
                }
                if before >= limit {
                    return;
                }
            }
            // when requests are counted, those begun before are not among them
            let exact = self.plan.max_requests.is_some();
            self.exchange(world, &mut connection, now, batch, |answered| {
                let begun = if exact { now } else { answered };
                self.window.get().is_some_and(|w| w.from <= begun && answered < w.until)
            });
        }
    }

    fn open_loop<W: World>(&self, world: W, mut connection: Connection<W::Stream>, rate: f64) {
        let window = loop {
            match self.window.get() {
                Some(window) => break window,
                None if self.stop.load(Relaxed) => return,
                None => world.sleep(Duration::from_millis(10)),
            }
        };
        loop {
            let ticket = self.tickets.fetch_add(1, Relaxed);
            let due = window.begin + Duration::from_secs_f64(ticket as f64 / rate);
            if due >= window.until {
                return;
            }
            if self.plan.max_requests.is_some_and(|limit| ticket >= limit) {
                self.stop.store(true, Relaxed);
                return;
            }
            let now = Instant::now();
            if due > now {
                world.sleep(due - now);
            } else if now > window.until + LATE {
                if due >= window.from {
                    self.tally().failure(Failure::NeverSent, 1);
                }
                continue;
            }
            self.exchange(world, &mut connection, due, 1, |_| due >= window.from);
        }
    }

    /// Sends a batch of requests, reads the answers and counts them, with latencies from `start` on, as far as
    /// `counts(moment of the answer)` says so. Failures always count once measuring has begun.
    fn exchange<W: World>(
        &self,
        world: W,
        connection: &mut Connection<W::Stream>,
        start: Instant,
        batch: u64,
        counts: impl Fn(Instant) -> bool,
    ) {
        let mut missing = batch;
        let result = (|| {
            let client = self.connect(world, connection)?;
            client.send(&self.batch)?;
            while missing > 0 {
                let summary = client.receive()?;
                let now = Instant::now();
                missing -= 1;
                match self.plan.expect.check(summary) {
                    Ok(()) if counts(now) => {
                        self.tally().success(now.saturating_duration_since(start), summary.body_length)
                    }
                    // else only the quick ones would count where a server starves some connections
                    Ok(()) if self.window.get().is_some_and(|w| start < w.from && now >= w.until) => {
                        self.fail(Failure::Starved, 1)
                    }
                    Ok(()) => {}
                    Err(failure) => self.fail(failure, 1),
                }
                if !summary.keep_alive || self.plan.connection_per_request {
                    if let Some(client) = connection.client.take() {
                        client.wait_for_end();
                    }
                    return if missing == 0 { Ok(()) } else { Err(Failure::ClosedBefore) };
                }
            }
            Ok(())
        })();
        if let Err(failure) = result {
            connection.client = None;
            let refused = matches!(failure, Failure::Connect(_));
            self.fail(failure, missing);
            if refused {
                // a server that refuses connections is not to be hammered, nor this loop to spin
                world.sleep(connection.pause);
                connection.pause = LONGEST_PAUSE.min(connection.pause * 2);
            }
        }
    }

    fn connect<'a, W: World>(
        &self,
        world: W,
        connection: &'a mut Connection<W::Stream>,
    ) -> Result<&'a mut Client<W::Stream>, Failure> {
        if connection.client.is_none() {
            let stream = world
                .connect(self.plan.address, self.plan.timeout)
                .map_err(|error| Failure::Connect(error.kind()))?;
            *connection = Connection { client: Some(Client::new(stream)), pause: FIRST_PAUSE };
        }
        connection.client.as_mut().ok_or(Failure::Connect(io::ErrorKind::NotConnected))
    }

    fn fail(&self, failure: Failure, times: u64) {
        if self.window.get().is_some_and(|w| Instant::now() >= w.from) {
            self.tally().failure(failure, times);
        }
    }
}
