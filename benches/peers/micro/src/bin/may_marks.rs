//! may, on one worker.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use may::coroutine::{self, JoinHandle};
use may::go;
use may::net::{TcpListener, TcpStream};
use may::sync::mpsc;
use micro_peers::blocking::{Blocking, echo, parked, ping_pong, spawn_join, switch};
use micro_peers::{DAY, Figures, TIMERS, cpu, due, ns};

fn main() -> ExitCode {
    may::config().set_workers(1);
    micro_peers::main(
        "may",
        &[
            ("switch", |_| inside(|| switch::<May>(1_000_000))),
            ("spawn_join", |_| inside(|| spawn_join::<May>(500_000))),
            ("ping_pong", |_| inside(|| ping_pong::<May>(500_000))),
            ("echo_1", |_| inside(|| echo::<May>(1, 50_000))),
            ("echo_1000", |_| inside(|| echo::<May>(1_000, 100))),
            ("timers", |_| inside(timers)),
            ("parked", parked::<May>),
        ],
    )
}

/// Runs a benchmark in a coroutine, so that it waits as one.
fn inside(bench: impl FnOnce() -> Figures + Send + 'static) -> Figures {
    go!(bench).join().expect("it does not panic")
}

struct May;

impl Blocking for May {
    type Stream = TcpStream;
    type Handle = JoinHandle<()>;

    fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        go!(work)
    }

    fn join(handle: JoinHandle<()>) {
        handle.join().expect("it does not panic");
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn park() {
        coroutine::sleep(DAY);
    }

    fn channel() -> (impl Fn(u64) + Send + 'static, impl Fn() -> Option<u64> + Send + 'static) {
        let (sender, receiver) = mpsc::channel();
        (move |number| sender.send(number).expect("the other end is there"), move || receiver.recv().ok())
    }

    fn connections(number: u64) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let connect = |_| {
            let near = TcpStream::connect(address).expect("it listens");
            let (far, _) = listener.accept().expect("somebody connects");
            near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("a TCP option");
            (near, far)
        };
        (0..number).map(connect).collect()
    }
}

fn timers() -> Figures {
    let start = cpu();
    let sleepers: Vec<_> = (0..TIMERS).map(|number| go!(move || coroutine::sleep(due(number)))).collect();
    for sleeper in sleepers {
        sleeper.join().expect("it does not panic");
    }
    ns(start, TIMERS)
}
