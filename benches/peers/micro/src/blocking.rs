//! The benchmarks for runtimes whose calls block as those of std do: written once, so that all do the same.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{BUFFER, Figures, Footprint, MESSAGE, cpu, ns};

/// What such a runtime has. Where something can't be had these panic and say why.
pub trait Blocking {
    /// One end of a TCP connection.
    type Stream: Read + Write + Send + 'static;
    /// What is joined.
    type Handle;

    /// Begins something that runs beside.
    fn spawn(work: impl FnOnce() + Send + 'static) -> Self::Handle;
    /// Waits until it is done.
    fn join(handle: Self::Handle);
    /// Lets others run.
    fn yield_now();
    /// Sleeps for longer than any benchmark takes.
    fn park();
    /// The two ends of a channel: what sends, and what receives until the other end is dropped.
    fn channel() -> (impl Fn(u64) + Send + 'static, impl Fn() -> Option<u64> + Send + 'static);
    /// So many connections over loopback, both ends of each, with TCP_NODELAY.
    fn connections(number: u64) -> Vec<(Self::Stream, Self::Stream)>;
}

/// Two that do nothing but give way to each other.
pub fn switch<R: Blocking>(times: u64) -> Figures {
    let yields = move || (0..times).for_each(|_| R::yield_now());
    let start = cpu();
    for handle in [R::spawn(yields), R::spawn(yields)] {
        R::join(handle);
    }
    ns(start, 2 * times)
}

/// One after the other, each joined before the next.
pub fn spawn_join<R: Blocking>(times: u64) -> Figures {
    let start = cpu();
    for _ in 0..times {
        R::join(R::spawn(|| {}));
    }
    ns(start, times)
}

/// A number there and back again, through two channels.
pub fn ping_pong<R: Blocking>(times: u64) -> Figures {
    let (ping, pings) = R::channel();
    let (pong, pongs) = R::channel();
    let start = cpu();
    let server = R::spawn(move || {
        while let Some(number) = pings() {
            pong(number);
        }
    });
    for number in 0..times {
        ping(number);
        pongs().expect("an answer");
    }
    drop(ping);
    R::join(server);
    ns(start, times)
}

/// A message there and back again over TCP, on so many connections at once.
pub fn echo<R: Blocking>(connections: u64, times: u64) -> Figures {
    let mut clients = Vec::new();
    for (near, mut far) in R::connections(connections) {
        R::spawn(move || {
            let mut buffer = [0; BUFFER];
            while let Ok(length @ 1..) = far.read(&mut buffer) {
                far.write_all(&buffer[..length]).expect("the other end is there");
            }
        });
        clients.push(near);
    }
    let start = cpu();
    let client = |mut near: R::Stream| {
        R::spawn(move || {
            let mut buffer = [7; BUFFER];
            for _ in 0..times {
                near.write_all(&buffer[..MESSAGE]).expect("the other end is there");
                let mut missing = MESSAGE;
                while missing > 0 {
                    missing -= near.read(&mut buffer).expect("the other end answers");
                }
            }
        })
    };
    let clients: Vec<_> = clients.into_iter().map(client).collect();
    clients.into_iter().for_each(R::join);
    ns(start, connections * times)
}

/// Many that are all asleep at once.
pub fn parked<R: Blocking>(count: usize) -> Figures {
    let before = Footprint::new();
    let asleep = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let asleep = asleep.clone();
        R::spawn(move || {
            asleep.fetch_add(1, Ordering::Relaxed);
            R::park();
        });
    }
    while asleep.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    before.of_each(count)
}
