//! std threads: one OS thread for each greenlet.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use micro_peers::DAY;
use micro_peers::blocking::{Blocking, echo, parked, ping_pong, spawn_join, switch};

fn main() -> ExitCode {
    micro_peers::main(
        "std threads",
        &[
            ("switch", |_| switch::<Threads>(200_000)),
            ("spawn_join", |_| spawn_join::<Threads>(20_000)),
            ("ping_pong", |_| ping_pong::<Threads>(100_000)),
            ("echo_1", |_| echo::<Threads>(1, 50_000)),
            ("echo_1000", |_| echo::<Threads>(1_000, 50)),
            ("parked", parked::<Threads>),
        ],
    )
}

struct Threads;

impl Blocking for Threads {
    type Stream = TcpStream;
    type Handle = JoinHandle<()>;

    fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        thread::Builder::new().spawn(work).unwrap_or_else(|error| panic!("no more threads: {error}"))
    }

    fn join(handle: JoinHandle<()>) {
        handle.join().expect("it does not panic");
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn park() {
        thread::sleep(DAY);
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
