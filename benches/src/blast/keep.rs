//! Connections that are kept: closed loop and open loop.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::answer::Progress;
use super::{Blast, Edge, Outcome, PATIENCE, Pace, connect};

struct Connection {
    socket: OwnedFd,
    progress: Progress,
    /// Answers to come.
    waiting: usize,
    /// When the request under way was due (open loop).
    due: Instant,
    dead: bool,
}

struct Run<'a> {
    blast: &'a Blast,
    batch: Vec<u8>,
    depth: usize,
    poller: OwnedFd,
    connections: Vec<Connection>,
    /// Those that wait for something to send (open loop).
    free: VecDeque<usize>,
    buffer: Vec<u8>,
    outcome: Outcome,
    open: bool,
}

pub(super) fn run(blast: &Blast, look: &mut dyn FnMut(Edge)) -> io::Result<Outcome> {
    let (depth, rate) = match blast.pace {
        Pace::Closed { depth } => (depth.max(1), None),
        Pace::Open { rate } => (1, Some(rate)),
        Pace::Closing => unreachable!("connections that are not kept have their own loop"),
    };
    let mut run = Run {
        blast,
        batch: blast.request.repeat(depth),
        depth,
        poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        connections: Vec::with_capacity(blast.connections),
        free: (0..blast.connections).collect(),
        buffer: vec![0; 64 * 1024],
        outcome: Outcome::new(),
        open: rate.is_some(),
    };
    for index in 0..blast.connections {
        let socket = connect(blast.address)?;
        epoll::add(
            &run.poller,
            &socket,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
        )?;
        let now = Instant::now();
        run.connections.push(Connection {
            socket,
            progress: Progress::default(),
            waiting: 0,
            due: now,
            dead: false,
        });
    }
    match rate {
        None => run.closed(look)?,
        Some(rate) => run.open(rate, look)?,
    }
    Ok(run.outcome)
}

impl Run<'_> {
    fn closed(&mut self, look: &mut dyn FnMut(Edge)) -> io::Result<()> {
        let pause = self.blast.spread / self.connections.len().max(1) as u32;
        let mut events = Vec::with_capacity(256);
        let mut next = Instant::now();
        for index in 0..self.connections.len() {
            while Instant::now() < next {
                self.answers(&mut events, Some(Duration::ZERO))?;
            }
            next += pause;
            self.send(index);
        }
        let begin = Instant::now() + self.blast.warmup;
        self.closed_until(begin, &mut events)?;
        self.forget();
        let begin = Instant::now();
        look(Edge::Begin);
        self.closed_until(begin + self.blast.duration, &mut events)?;
        look(Edge::End);
        self.outcome.elapsed = begin.elapsed();
        Ok(())
    }

    fn closed_until(&mut self, end: Instant, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let mut last = (self.outcome.answers, Instant::now());
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.answers(events, Some((end - now).max(Duration::from_millis(1))))?;
            if self.outcome.answers != last.0 {
                last = (self.outcome.answers, now);
            } else if now - last.1 > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for ten seconds"));
            }
        }
    }

    fn open(&mut self, rate: f64, look: &mut dyn FnMut(Edge)) -> io::Result<()> {
        let start = Instant::now();
        let begin = start + self.blast.warmup;
        let end = begin + self.blast.duration;
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let mut events = Vec::with_capacity(256);
        let (mut number, mut counting) = (0_u64, false);
        loop {
            let now = Instant::now();
            if !counting && now >= begin {
                counting = true;
                self.forget();
                look(Edge::Begin);
            }
            if now >= end {
                break;
            }
            while due(number) <= now {
                let Some(index) = self.free.pop_front() else { break };
                self.connections[index].due = due(number);
                number += 1;
                self.send(index);
            }
            self.answers(&mut events, Some(Duration::ZERO))?;
        }
        look(Edge::End);
        self.outcome.elapsed = begin.elapsed();
        // what was due and is still waiting for a connection, or for its answer: their latencies are at least so long
        while due(number) < end {
            let late = Instant::now().saturating_duration_since(due(number));
            self.outcome.error(|| "a request was due and no connection was free".to_owned());
            self.outcome.latencies.saturating_record(late.as_nanos() as u64);
            number += 1;
        }
        Ok(())
    }

    /// What came before doesn't count.
    fn forget(&mut self) {
        self.outcome = Outcome::new();
    }

    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        match send(&connection.socket, &self.batch, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) if n == self.batch.len() => connection.waiting = self.depth,
            Ok(_) => self.lose(index, || "a request was sent in part".to_owned()),
            Err(error) => self.lose(index, || format!("send: {error}")),
        }
    }

    /// Counts the error and takes the connection out.
    fn lose(&mut self, index: usize, what: impl FnOnce() -> String) {
        self.outcome.error(what);
        let connection = &mut self.connections[index];
        if !connection.dead {
            connection.dead = true;
            let _ = epoll::delete(&self.poller, &connection.socket);
        }
    }

    /// Waits for answers, reads them, and in closed loop sends the next requests.
    fn answers(&mut self, events: &mut Vec<epoll::Event>, wait: Option<Duration>) -> io::Result<()> {
        events.clear();
        let wait = wait
            .map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) });
        match epoll::wait(&self.poller, spare_capacity(events), wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &*events {
            self.receive(event.data.u64() as usize);
        }
        if self.connections.iter().all(|connection| connection.dead) {
            let why = self.outcome.first_error.clone().unwrap_or_default();
            return Err(io::Error::other(format!("all connections are lost: {why}")));
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.dead {
            return;
        }
        let answer = &self.blast.answer;
        let ignorable = connection.progress.ignorable(answer);
        let mut flags = RecvFlags::DONTWAIT;
        let mut size = self.buffer.len();
        if ignorable > 0 {
            if ignorable > self.buffer.len() {
                self.buffer.resize(ignorable, 0);
            }
            size = ignorable;
            flags |= RecvFlags::TRUNC;
        } else if answer.length.is_some_and(|length| length > LARGE) {
            size = SMALL; // the head; the rest can be ignored
        }
        let received = match recv(&connection.socket, &mut self.buffer[..size], flags) {
            Ok((_, n)) => n,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(error) => return self.lose(index, || format!("recv: {error}")),
        };
        if received == 0 {
            return self.lose(index, || "the server ended a connection".to_owned());
        }
        let ended = if ignorable > 0 {
            Some(usize::from(connection.progress.skip(answer, received)))
        } else {
            connection.progress.take(answer, &self.buffer[..received])
        };
        let Some(ended) = ended else {
            return self.lose(index, || "not the expected answer".to_owned());
        };
        if ended > connection.waiting {
            return self.lose(index, || "an answer that nobody had asked for".to_owned());
        }
        connection.waiting -= ended;
        self.outcome.answers += ended as u64;
        if ended == 0 || connection.waiting > 0 {
            return;
        }
        if self.open {
            let latency = connection.due.elapsed();
            self.outcome.latencies.saturating_record(latency.as_nanos() as u64);
            self.free.push_back(index);
        } else {
            self.send(index);
        }
    }
}

/// Answers longer than this are looked at to this length only at first.
const LARGE: usize = 16 * 1024;
const SMALL: usize = 1024;
