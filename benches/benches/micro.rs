//! What the runtime's building blocks cost, each beside what the operating system offers for it.
//!
//! ```text
//! cargo bench -p greenserve-benches
//! cargo bench -p greenserve-benches -- switch
//! ```
//!
//! Everything runs on one hub, on the main thread: criterion's own code is the main program that drives it.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenlet::net::{TcpListener, TcpStream, UnixStream};

criterion_group!(benches, switch, spawn_and_join, timers, round_trip, locals);
criterion_main!(benches);

/// From one green thread to the next, through the hub's ready queue.
fn switch(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    group.bench_function("green", |b| {
        b.iter_custom(|iterations| {
            let yields = iterations / 2 + 1;
            let run = move || {
                for _ in 0..yields {
                    greenlet::yield_now();
                }
            };
            let pair = [greenlet::spawn(run), greenlet::spawn(run)];
            let start = Instant::now();
            greenlet::join_all(&pair, None).expect("two that only yield");
            start.elapsed()
        });
    });
    group.bench_function("OS threads", |b| b.iter(thread::yield_now));
    group.finish();
}

/// An empty green thread, from its beginning to its result in the hands of who spawned it.
fn spawn_and_join(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn+join");
    group.bench_function("green", |b| {
        b.iter(|| greenlet::spawn(|| black_box(1)).join().expect("it just returns"))
    });
    group.bench_function("of a hundred", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            for _ in 0..iterations.div_ceil(100) {
                let hundred: Vec<_> = (0..100).map(|_| greenlet::spawn(|| black_box(1))).collect();
                greenlet::join_all(&hundred, None).expect("they just return");
            }
            start.elapsed()
        });
    });
    group.bench_function("OS thread", |b| {
        b.iter(|| thread::spawn(|| black_box(1)).join().expect("it just returns"));
    });
    group.finish();
}

/// A timeout set and cancelled again, as around each read of a server, while so many green threads sleep.
fn timers(c: &mut Criterion) {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut group = c.benchmark_group("timer");
    for pending in [0, 1_000, 100_000] {
        let sleepers: Vec<_> = (0..pending).map(|_| greenlet::spawn(|| greenlet::sleep(HOUR))).collect();
        greenlet::yield_now();
        group.bench_function(BenchmarkId::new("pending", pending), |b| {
            // within a green thread, as its timeouts would be
            b.iter_custom(|iterations| {
                let work = move || {
                    let start = Instant::now();
                    for _ in 0..iterations {
                        let _ = black_box(greenlet::timeout(HOUR, || black_box(1)));
                    }
                    start.elapsed()
                };
                greenlet::spawn(work).join().expect("it doesn't panic")
            });
        });
        greenlet::kill_all(&sleepers, None).expect("sleepers can be killed");
    }
    group.finish();
}

/// One byte there and one back between two green threads, with idle connections around them.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let connect = || {
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (far, _) = listener.accept().expect("connected");
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("tcp");
        (near, far)
    };
    for idle in [0, 1_000] {
        let around: Vec<_> = (0..idle)
            .map(|_| {
                let (near, far) = connect();
                (near, greenlet::spawn(move || (&far).read(&mut [0]).ok()))
            })
            .collect();
        group.bench_function(BenchmarkId::new("tcp, idle", idle), |b| {
            b.iter_custom(|iterations| {
                let (near, far) = connect();
                ping_pong(near, far, iterations)
            });
        });
        drop(around);
    }
    group.bench_function("unix", |b| {
        b.iter_custom(|iterations| {
            let (near, far) = UnixStream::pair().expect("descriptors");
            ping_pong(near, far, iterations)
        });
    });
    group.bench_function("unix, OS threads", |b| {
        b.iter_custom(|iterations| {
            let (mut near, mut far) = std::os::unix::net::UnixStream::pair().expect("descriptors");
            let echo = thread::spawn(move || echo(&mut far));
            let elapsed = ping(&mut near, iterations);
            drop(near);
            echo.join().expect("it doesn't panic");
            elapsed
        });
    });
    group.finish();
}

fn ping_pong<S: Read + Write + 'static>(mut near: S, mut far: S, iterations: u64) -> Duration {
    let echo = greenlet::spawn(move || echo(&mut far));
    let ping = greenlet::spawn(move || ping(&mut near, iterations));
    let elapsed = ping.join().expect("it doesn't panic");
    echo.join().expect("it doesn't panic");
    elapsed
}

fn ping(stream: &mut (impl Read + Write), iterations: u64) -> Duration {
    let mut byte = [7];
    let start = Instant::now();
    for _ in 0..iterations {
        stream.write_all(&byte).expect("the other end is open");
        stream.read_exact(&mut byte).expect("the other end answers");
    }
    start.elapsed()
}

fn echo(stream: &mut (impl Read + Write)) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        stream.write_all(&byte).expect("the other end is open");
    }
}

/// What each switch pays for values of its own, and what a look at one costs.
fn locals(c: &mut Criterion) {
    ctxlocal::ctxlocal! {
        static COUNTER: std::cell::Cell<u64> = std::cell::Cell::new(0);
    }
    let mut group = c.benchmark_group("locals");
    let mut map = ctxlocal::Map::new();
    group.bench_function("swap", |b| b.iter(|| ctxlocal::swap(black_box(&mut map))));
    group.bench_function("get", |b| b.iter(|| COUNTER.get()));
    group.bench_function("empty scope", |b| b.iter(|| ctxlocal::scope(|| black_box(1))));
    group.finish();
}
