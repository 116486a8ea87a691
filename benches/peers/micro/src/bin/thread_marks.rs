//! std threads: one OS thread for each greenlet.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;

use micro_peers::{BUFFER, Figures, MESSAGE, cpu, ns};

fn main() -> ExitCode {
    micro_peers::main(
        "std threads",
        &[
            ("switch", |_| switch()),
            ("spawn_join", |_| spawn_join()),
            ("ping_pong", |_| ping_pong()),
            ("echo_1", |_| echo(1, 50_000)),
            ("echo_1000", |_| echo(1_000, 50)),
        ],
    )
}

fn switch() -> Figures {
    const TIMES: u64 = 200_000;
    let yields = || (0..TIMES).for_each(|_| thread::yield_now());
    let start = cpu();
    thread::scope(|scope| {
        scope.spawn(yields);
        scope.spawn(yields);
    });
    ns(start, 2 * TIMES)
}

fn spawn_join() -> Figures {
    const TIMES: u64 = 20_000;
    let start = cpu();
    for _ in 0..TIMES {
        thread::spawn(|| {}).join().expect("it does nothing");
    }
    ns(start, TIMES)
}

fn ping_pong() -> Figures {
    const TIMES: u64 = 100_000;
    let (ping, pings) = channel();
    let (pong, pongs) = channel();
    let start = cpu();
    let server = thread::spawn(move || pings.iter().try_for_each(|value| pong.send(value)));
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
        thread::spawn(move || {
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
            thread::spawn(move || {
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
