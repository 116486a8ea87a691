//! Whole event loops as guests: each in a greenlet of its own, which `epoll_wait` parks.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenserve_tests::in_time;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LISTENER: Token = Token(0);
const STREAM: Token = Token(1);
const WAKER: Token = Token(2);

/// Sends back what one peer sends, until its end.
fn echo(mut listener: TcpListener) -> usize {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    let mut stream: Option<TcpStream> = None;
    let mut total = 0;
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == LISTENER {
                let (mut accepted, _) = listener.accept().unwrap();
                poll.registry().register(&mut accepted, STREAM, Interest::READABLE).unwrap();
                stream = Some(accepted);
            }
        }
        let Some(stream) = &mut stream else { continue };
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return total,
                Ok(count) => {
                    total += count;
                    stream.write_all(&buffer[..count]).unwrap();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Asks, and waits for the answer, as many times as `rounds`.
fn ask(to: SocketAddr, rounds: usize) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut stream = TcpStream::connect(to).unwrap();
    poll.registry().register(&mut stream, STREAM, Interest::READABLE | Interest::WRITABLE).unwrap();
    poll.poll(&mut events, None).unwrap();
    for round in 0..rounds {
        let sent = [round as u8; 16];
        stream.write_all(&sent).unwrap();
        let (mut answer, mut length) = ([0; 16], 0);
        while length < answer.len() {
            match stream.read(&mut answer[length..]) {
                Ok(count) => length += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll.poll(&mut events, Duration::from_secs(3600).into()).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(answer, sent);
    }
}

#[test]
fn two_loops_of_mio_talk_to_each_other_on_one_thread() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = greenlet::spawn(move || echo(listener));
        let client = greenlet::spawn(move || ask(address, 100));
        client.join().unwrap();
        assert_eq!(server.join().unwrap(), 1600);
    });
}

#[test]
fn a_loop_of_mio_is_woken_from_another_thread() {
    in_time(|| {
        let mut poll = Poll::new().unwrap();
        // A waker that is dropped takes its event with it.
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let ran = Rc::new(Cell::new(false));
        let waiting = greenlet::spawn(move || {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, None).unwrap();
            assert!(events.iter().any(|event| event.token() == WAKER));
        });
        let (other, wakes) = (ran.clone(), waker.clone());
        greenlet::spawn(move || {
            other.set(true);
            std::thread::spawn(move || wakes.wake().unwrap());
        });
        waiting.join().unwrap();
        drop(waker);
        assert!(ran.get());
    });
}

/// tokio's current runtime is the thread's, so that a thread can have one in one greenlet at a time.
#[test]
fn a_runtime_of_tokio_runs_beside_other_greenlets() {
    in_time(|| {
        let (address, turns) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(0)));
        let (tells, counts, counted) = (address.clone(), turns.clone(), turns);
        let guest = greenlet::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tells.set(Some(listener.local_addr().unwrap()));
                let ticker = tokio::spawn(async {
                    let mut ticks = tokio::time::interval(Duration::from_millis(1));
                    for _ in 0..20 {
                        ticks.tick().await;
                    }
                });
                for _ in 0..3 {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut said = Vec::new();
                    stream.read_to_end(&mut said).await.unwrap();
                    said.reverse();
                    stream.write_all(&said).await.unwrap();
                }
                ticker.await.unwrap();
                // The others have their turns while it waits.
                while counted.get() < 5 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        });
        greenlet::spawn(move || {
            loop {
                counts.set(counts.get() + 1);
                greenlet::sleep(Duration::from_millis(1));
            }
        });
        while address.get().is_none() {
            greenlet::sleep(Duration::from_millis(1));
        }
        for _ in 0..3 {
            // The green sockets of the same thread are its peers.
            let mut peer = greenlet::net::TcpStream::connect(address.get().unwrap()).unwrap();
            peer.write_all(b"abc").unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            peer.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "cba");
        }
        guest.join().unwrap();
    });
}
