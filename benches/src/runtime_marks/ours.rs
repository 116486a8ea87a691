//! The benchmarks for our own runtime. Those of the peers do the same in the same way.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use greenlet::net::{TcpListener, TcpStream};
use greenlet::sync::Queue;
use greenlet::{HubHandle, join_all, sleep, spawn, spawn_later, timeout, yield_now};

/// Length of a message of the echo benchmarks, in bytes.
const MESSAGE: usize = 64;
/// Length of the buffers that messages are read into: what is there is read, as an echo server does.
const BUFFER: usize = 1024;
/// How many timers are due within a second.
const TIMERS: u64 = 100_000;
/// How many timers are pending while others are set and cancelled.
const PENDING: usize = 1_000_000;
/// Longer than any benchmark takes.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a benchmark found: names and values.
type Found = Vec<(&'static str, f64)>;

/// Runs the benchmark of this name and gives the line that a program for one prints. `count` is how many greenlets
/// `parked` parks.
///
/// # Errors
/// If there is no such benchmark; what the kernel says where one needs it.
pub fn run(name: &str, count: usize) -> io::Result<String> {
    let found = match name {
        "switch" => switch(),
        "spawn_join" => inside(spawn_join),
        "ping_pong" => ping_pong(),
        "echo_1" => inside(|| echo(1, 50_000))?,
        "echo_1000" => inside(|| echo(1_000, 100))?,
        "timers" => timers(),
        "starts" => starts(),
        "timer_cancel" => inside(timer_cancel),
        "parked" => parked(count)?,
        "remote_wake" => remote_wake()?,
        _ => return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no benchmark `{name}`"))),
    };
    let figures: Vec<_> = found.iter().map(|(name, value)| format!("\"{name}\":{value:.6}")).collect();
    Ok(format!("{{\"runtime\":\"this one\",\"figures\":{{{}}}}}", figures.join(",")))
}

/// In a greenlet, which waits as one; main would drive the hub itself.
fn inside<T: 'static>(bench: impl FnOnce() -> T + 'static) -> T {
    spawn(bench).join().expect("a benchmark does not panic")
}

/// Two that do nothing but give way to each other.
fn switch() -> Found {
    const TIMES: u64 = 2_000_000;
    let yields = || (0..TIMES).for_each(|_| yield_now());
    let start = cpu();
    join_all(&[spawn(yields), spawn(yields)], None).expect("they only yield");
    ns(start, 2 * TIMES)
}

/// One after the other, each joined before the next.
fn spawn_join() -> Found {
    const TIMES: u64 = 1_000_000;
    let start = cpu();
    for _ in 0..TIMES {
        spawn(|| {}).join().expect("it does nothing");
    }
    ns(start, TIMES)
}

/// A number there and back again between two, through two channels.
fn ping_pong() -> Found {
    const TIMES: u64 = 1_000_000;
    let [pings, pongs] = [(); 2].map(|()| Rc::new(Queue::unbounded()));
    let start = cpu();
    let server = {
        let (pings, pongs) = (pings.clone(), pongs.clone());
        spawn(move || {
            while let Ok(number) = pings.get() {
                pongs.put(number).expect("the other end is there");
            }
        })
    };
    let client = spawn(move || {
        for number in 0..TIMES {
            pings.put(number).expect("the other end is there");
            pongs.get().expect("an answer");
        }
        pings.close();
    });
    join_all(&[server, client], None).expect("they do not panic");
    ns(start, TIMES)
}

/// A message there and back again over TCP, both ends in this process, on so many connections at once.
fn echo(connections: u64, times: u64) -> io::Result<Found> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        let near = TcpStream::connect(address)?;
        let (mut far, _) = listener.accept()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        spawn(move || {
            let mut buffer = [0; BUFFER];
            while let Ok(length @ 1..) = far.read(&mut buffer) {
                far.write_all(&buffer[..length]).expect("the other end is there");
            }
        });
        clients.push(near);
    }
    let start = cpu();
    let clients: Vec<_> = clients
        .into_iter()
        .map(|mut near| {
            spawn(move || {
                let mut buffer = [7; BUFFER];
                (0..times).try_for_each(|_| {
                    near.write_all(&buffer[..MESSAGE])?;
                    let mut missing = MESSAGE;
                    while missing > 0 {
                        missing -= near.read(&mut buffer)?;
                    }
                    Ok::<_, io::Error>(())
                })
            })
        })
        .collect();
    for client in clients {
        client.join().expect("it does not panic")?;
    }
    Ok(ns(start, connections * times))
}

/// Spawns as many as sleep, each for its part of a second, and waits for all.
fn timers() -> Found {
    let start = cpu();
    let sleepers: Vec<_> = (0..TIMERS).map(|number| spawn(move || sleep(due(number)))).collect();
    join_all(&sleepers, None).expect("they only sleep");
    ns(start, TIMERS)
}

/// The same, but those who have nothing to do before are spawned for later, and need no stack until then.
fn starts() -> Found {
    let start = cpu();
    let sleepers: Vec<_> = (0..TIMERS).map(|number| spawn_later(due(number), || {})).collect();
    join_all(&sleepers, None).expect("they do nothing");
    ns(start, TIMERS)
}

fn due(number: u64) -> Duration {
    // spread over the second, out of order
    Duration::from_micros(number * 7_919 % TIMERS * 1_000_000 / TIMERS)
}

/// A timeout set and cancelled, over and over, while a million timers are pending.
fn timer_cancel() -> Found {
    const TIMES: u64 = 1_000_000;
    let _pending: Vec<_> = (0..PENDING).map(|_| spawn_later(DAY, || {})).collect();
    let start = cpu();
    for _ in 0..TIMES {
        timeout(DAY, || {}).expect("a day is not over yet");
    }
    ns(start, TIMES)
}

/// Many that sleep at once, each on its own stack: memory, and time until the last one sleeps.
fn parked(count: usize) -> io::Result<Found> {
    let mut greenlets = Vec::with_capacity(count);
    let asleep = Rc::new(Cell::new(0));
    let before = resident()?;
    let start = cpu();
    for number in 0..count {
        let asleep = asleep.clone();
        greenlets.push(greenlet::Builder::new().spawn(move || {
            asleep.set(asleep.get() + 1);
            sleep(DAY);
        })?);
        if number % 1_000 == 999 {
            yield_now(); // as a server would: they start as they come
        }
    }
    while asleep.get() < count {
        yield_now();
    }
    let seconds = cpu() - start;
    let bytes = (resident()? - before) as f64 / count as f64;
    Ok(vec![("bytes", bytes), ("seconds", seconds)])
}

/// Wakes from another thread while greenlets are running: how many times that thread writes to a descriptor, for each.
fn remote_wake() -> io::Result<Found> {
    const TIMES: u64 = 100_000;
    static WOKEN: AtomicU64 = AtomicU64::new(0);
    let hub = HubHandle::current();
    let done = Arc::new(AtomicBool::new(false));
    let waker = {
        let done = done.clone();
        thread::spawn(move || {
            let count = || {
                WOKEN.fetch_add(1, Ordering::Relaxed);
            };
            let before = writes();
            (0..TIMES).for_each(|_| assert!(hub.spawn(count), "the hub is there"));
            let after = writes();
            done.store(true, Ordering::Release);
            Ok::<_, io::Error>(after? - before?)
        })
    };
    let busy = spawn(move || {
        while !done.load(Ordering::Acquire) || WOKEN.load(Ordering::Relaxed) < TIMES {
            yield_now();
        }
    });
    join_all(&[busy], None)?;
    let writes = waker.join().expect("it does not panic")?;
    Ok(vec![("writes", writes as f64 / TIMES as f64)])
}

/// How many times the calling thread has asked the kernel to write something.
fn writes() -> io::Result<u64> {
    let io = fs::read_to_string("/proc/thread-self/io")?;
    let count = io.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok());
    count.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the kernel does not count writes"))
}

/// Processor time that this process has used, in seconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn ns(start: f64, times: u64) -> Found {
    vec![("ns", (cpu() - start) * 1e9 / times as f64)]
}

fn resident() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.unwrap_or(0) * rustix::param::page_size() as u64)
}
