//! may, on one worker.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use may::coroutine::{sleep, yield_now};
use may::net::{TcpListener, TcpStream};
use may::sync::mpsc::channel;
use may::{coroutine, go};
use micro_peers::{BUFFER, DAY, Figures, Footprint, MESSAGE, TIMERS, cpu, due, ns};

fn main() -> ExitCode {
    may::config().set_workers(1);
    micro_peers::main(
        "may",
        &[
            ("switch", |_| inside(switch)),
            ("spawn_join", |_| inside(spawn_join)),
            ("ping_pong", |_| inside(ping_pong)),
            ("echo_1", |_| inside(|| echo(1, 50_000))),
            ("echo_1000", |_| inside(|| echo(1_000, 100))),
            ("timers", |_| inside(timers)),
            ("parked", parked),
        ],
    )
}

/// Runs a benchmark in a coroutine, so that it waits as one.
fn inside(bench: impl FnOnce() -> Figures + Send + 'static) -> Figures {
    go!(bench).join().expect("it does not panic")
}

fn switch() -> Figures {
    const TIMES: u64 = 1_000_000;
    let yields = || (0..TIMES).for_each(|_| yield_now());
    let start = cpu();
    for coroutine in [go!(yields), go!(yields)] {
        coroutine.join().expect("it only yields");
    }
    ns(start, 2 * TIMES)
}

fn spawn_join() -> Figures {
    const TIMES: u64 = 500_000;
    let start = cpu();
    for _ in 0..TIMES {
        go!(|| {}).join().expect("it does nothing");
    }
    ns(start, TIMES)
}

fn ping_pong() -> Figures {
    const TIMES: u64 = 500_000;
    let (ping, pings) = channel();
    let (pong, pongs) = channel();
    let start = cpu();
    let server = go!(move || pings.iter().try_for_each(|value| pong.send(value)));
    for number in 0..TIMES {
        ping.send(number).expect("the other end is there");
        pongs.recv().expect("an answer");
    }
    drop(ping);
    server.join().expect("it does not panic").expect("the other end is there");
    ns(start, TIMES)
}

fn echo(connections: u64, times: u64) -> Figures {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let mut clients = Vec::new();
    for _ in 0..connections {
        let near = TcpStream::connect(address).expect("it listens");
        let (mut far, _) = listener.accept().expect("somebody connects");
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("a TCP option");
        go!(move || {
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
            go!(move || {
                let mut buffer = [7; BUFFER];
                for _ in 0..times {
                    near.write_all(&buffer[..MESSAGE]).expect("the other end is there");
                    let mut missing = MESSAGE;
                    while missing > 0 {
                        missing -= near.read(&mut buffer).expect("the other end answers");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("it does not panic");
    }
    ns(start, connections * times)
}

fn timers() -> Figures {
    let start = cpu();
    let sleepers: Vec<_> = (0..TIMERS).map(|number| go!(move || sleep(due(number)))).collect();
    for sleeper in sleepers {
        sleeper.join().expect("it does not panic");
    }
    ns(start, TIMERS)
}

fn parked(count: usize) -> Figures {
    let before = Footprint::new();
    let asleep = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let asleep = asleep.clone();
        // SAFETY: the coroutine touches no thread-local value.
        unsafe {
            coroutine::spawn(move || {
                asleep.fetch_add(1, Ordering::Relaxed);
                sleep(DAY);
            });
        }
    }
    while asleep.load(Ordering::Relaxed) < count {
        std::thread::yield_now();
    }
    before.of_each(count)
}
