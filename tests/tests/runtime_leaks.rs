//! What the runtime has used it gives back: descriptors, mappings, memory, greenlets. In a process of its own.

use std::io::{Read, Write};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

use greenlet::net::{TcpListener, TcpStream, UdpSocket};
use greenlet::{Builder, JoinError, sleep, spawn, timeout, unblock};
use greenserve_tests::{PATIENCE, Proc, eventually};

/// What is counted belongs to the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A bit of everything, ended in every way.
fn a_busy_while() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            spawn(move || {
                let mut buffer = [0; 1000];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let clients: Vec<_> = (0..50)
        .map(|n| {
            spawn(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.write_all(b"hello").unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                match n % 5 {
                    0 => sleep(Duration::from_secs(3600)),
                    1 => panic!("on purpose"),
                    2 => drop(timeout(Duration::from_millis(1), || stream.read(&mut [0; 1]))),
                    3 => stream.set_linger(Some(Duration::ZERO)).unwrap(),
                    _ => drop(unblock(|| 1)),
                }
            })
        })
        .collect();
    let deep = Builder::new().stack_size(1 << 20).spawn(|| recurse(500)).unwrap();
    deep.join().unwrap();
    sleep(Duration::from_millis(20));
    for (n, client) in clients.iter().enumerate() {
        match n % 5 {
            0 => client.kill().unwrap(),
            1 => assert!(matches!(client.join(), Err(JoinError::Panicked(_)))),
            _ => client.join().unwrap(),
        }
    }
    server.kill().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(timeout(Duration::from_millis(1), || socket.recv_from(&mut [0; 1])).is_err());
    // the server's greenlets learn that their clients have gone
    while greenlet::stats().greenlets > 0 {
        sleep(Duration::from_millis(1));
    }
}

#[inline(never)]
fn recurse(n: u32) -> u64 {
    let frame = std::hint::black_box([u64::from(n); 64]);
    if n == 0 { 0 } else { frame[3] + recurse(n - 1) }
}

#[test]
fn nothing_grows_however_often_it_is_used() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // the thread pool has all the threads that ten jobs at once can ask for…
    let together = Arc::new(Barrier::new(10));
    let jobs: Vec<_> = (0..10)
        .map(|_| {
            let together = together.clone();
            spawn(move || unblock(move || together.wait().is_leader()))
        })
        .collect();
    greenlet::join_all(&jobs, PATIENCE).unwrap();
    // …and the other pools fill up to what the load needs
    for _ in 0..5 {
        a_busy_while();
    }
    let me = Proc::current();
    let (files, mappings, memory) = (me.open_files(), me.mappings(), me.resident());
    for _ in 0..30 {
        a_busy_while();
    }
    assert_eq!(me.open_files(), files);
    assert!(me.mappings() <= mappings + 10, "{mappings} mappings before, {} after", me.mappings());
    let grown = me.resident().saturating_sub(memory);
    assert!(grown < 4_000_000, "thirty rounds more made the process grow by {grown} bytes");
}

#[test]
fn a_thread_that_ends_gives_back_its_hub() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let me = Proc::current();
    let one_thread = || {
        std::thread::spawn(|| {
            let jobs: Vec<_> = (0..20).map(|_| spawn(|| sleep(Duration::from_millis(1)))).collect();
            greenlet::join_all(&jobs, None).unwrap();
        })
        .join()
        .unwrap();
    };
    for _ in 0..5 {
        one_thread();
    }
    let (files, mappings) = (me.open_files(), me.mappings());
    for _ in 0..20 {
        one_thread();
    }
    eventually(PATIENCE, || me.open_files() <= files && me.mappings() <= mappings + 10);
}
