//! Every call that parks, in a state in which it never returns: the tables of the tests for kill and timeout.

use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use greenlet::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenlet::sync::{Event, Semaphore};
use greenlet::{Pool, sleep, spawn, unblock};

use crate::FOREVER;

type Call = Box<dyn FnOnce()>;

/// Name and call. Sockets and greenlets that a call needs are made here, outside the one who calls.
pub(crate) fn blocking_calls() -> Vec<(&'static str, Call)> {
    let mut calls: Vec<(&'static str, Call)> = Vec::new();
    let mut add = |name, call: Call| calls.push((name, call));

    add("sleep", Box::new(|| sleep(FOREVER)));
    add(
        "yield_now for ever",
        Box::new(|| {
            loop {
                greenlet::yield_now()
            }
        }),
    );
    let sleeper = spawn(|| sleep(FOREVER));
    add("join", Box::new(move || drop(sleeper.join())));
    let sleeper = spawn(|| sleep(FOREVER));
    add("join_timeout", Box::new(move || drop(sleeper.join_timeout(FOREVER))));
    let sleepers = [spawn(|| sleep(FOREVER)), spawn(|| sleep(FOREVER))];
    add("join_all", Box::new(move || drop(greenlet::join_all(&sleepers, None))));
    add("Event::wait", Box::new(|| drop(Event::new().wait())));
    add("Event::wait_timeout", Box::new(|| drop(Event::new().wait_timeout(FOREVER))));
    add("Semaphore::acquire", Box::new(|| drop(Semaphore::new(0).acquire())));
    add("Semaphore::acquire_timeout", Box::new(|| drop(Semaphore::new(0).acquire_timeout(FOREVER))));
    let pool = full_pool();
    add("Pool::spawn", Box::new(move || drop(pool.spawn(|| ()))));
    let pool = full_pool();
    add("Pool::wait_available", Box::new(move || drop(pool.wait_available(None))));
    let pool = full_pool();
    add("Pool::join", Box::new(move || drop(pool.join(None))));
    add("scope", Box::new(|| greenlet::scope(|s| drop(s.spawn(|| sleep(FOREVER))))));
    add("inside scope", Box::new(|| greenlet::scope(|_| sleep(FOREVER))));
    add("timeout", Box::new(|| assert!(greenlet::timeout(FOREVER, || sleep(FOREVER)).is_err())));
    add("unblock", Box::new(|| unblock(|| std::thread::sleep(Duration::from_millis(300)))));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    add("TcpListener::accept", Box::new(move || drop(listener.accept())));
    let (stream, peer) = tcp_pair();
    add("TcpStream read", Box::new(move || drop((&stream).read(&mut [0; 10]).map(|_| &peer))));
    let (stream, peer) = tcp_pair();
    add("TcpStream peek", Box::new(move || drop(stream.peek(&mut [0; 10]).map(|_| &peer))));
    let (stream, peer) = tcp_pair();
    add("TcpStream write", Box::new(move || drop((&stream).write_all(&vec![0; 100 << 20]).map(|()| &peer))));
    let (stream, peer) = tcp_pair();
    stream.set_read_timeout(Some(FOREVER)).unwrap();
    add("TcpStream read with a timeout", Box::new(move || drop((&stream).read(&mut [0; 10]).map(|_| &peer))));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    add("UdpSocket recv_from", Box::new(move || drop(socket.recv_from(&mut [0; 10]))));
    let (stream, peer) = UnixStream::pair().unwrap();
    add("UnixStream read", Box::new(move || drop((&stream).read(&mut [0; 10]).map(|_| &peer))));
    let (socket, peer) = UnixDatagram::pair().unwrap();
    add("UnixDatagram recv", Box::new(move || drop(socket.recv(&mut [0; 10]).map(|_| &peer))));
    let scratch = greenserve_tests::Scratch::new();
    let listener = UnixListener::bind(scratch.join("s")).unwrap();
    add("UnixListener::accept", Box::new(move || drop(listener.accept().map(|_| &scratch))));
    calls
}

/// Both ends of a connection over the loopback interface.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let accepting = spawn(move || listener.accept().unwrap().0);
    let one = TcpStream::connect(addr).unwrap();
    (one, accepting.join().unwrap())
}

/// A pool of one, and that one asleep.
fn full_pool() -> Rc<Pool> {
    let pool = Rc::new(Pool::new(1));
    pool.spawn(|| sleep(FOREVER)).unwrap();
    pool
}
