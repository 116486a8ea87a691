//! Stream and datagram servers: whom they serve, what they survive, and how they stop.

use std::cell::{Cell, RefCell};
use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;

use greenlet::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenlet::server::{Backoff, Datagram, DatagramServer, StreamServer};
use greenlet::sync::Event;
use greenlet::{Pool, WaitError, sleep, spawn, stats, timeout, yield_now};
use greenserve_tests::{PATIENCE, Scratch, in_time};

use crate::{DropFlag, FOREVER, SHORT, logs};

/// A server that is not bounded, on a port of its own.
fn serve(handler: impl Fn(TcpStream, SocketAddr) + 'static) -> StreamServer {
    let server = StreamServer::new(TcpListener::bind("127.0.0.1:0").unwrap(), handler).unwrap();
    server.start().unwrap();
    server
}

fn echo(mut stream: TcpStream, _: SocketAddr) {
    // The client may have gone.
    let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
}

/// One byte there and back.
fn ping(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

fn connect(server: &StreamServer) -> TcpStream {
    TcpStream::connect(server.local_addr()).unwrap()
}

/// Waits until `done` holds, in turns of the hub.
fn until(done: impl Fn() -> bool) {
    let wait = || {
        while !done() {
            sleep(SHORT / 10)
        }
    };
    timeout(PATIENCE, wait).expect("what the test waits for");
}

#[test]
fn each_connection_gets_a_handler_of_its_own() {
    in_time(|| {
        let server = serve(echo);
        assert_ne!(server.local_addr().port(), 0);
        let clients: Vec<_> = (0..200).map(|_| connect(&server)).collect();
        clients.iter().for_each(|client| ping(client).unwrap());
        assert_eq!(server.connections(), 200);
        drop(clients);
        server.stop(PATIENCE).unwrap();
        assert_eq!((server.connections(), server.is_started(), server.is_closed()), (0, false, true));
        assert_eq!((stats().greenlets, stats().timers, stats().descriptors), (0, 0, 0));
    });
}

#[test]
fn unix_listeners_are_served_too() {
    in_time(|| {
        let dir = Scratch::new();
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server =
            StreamServer::new(listener, |mut stream: UnixStream, _| drop(stream.write_all(b"hello")))
                .unwrap();
        server.start().unwrap();
        assert_eq!(server.local_addr().as_pathname(), Some(&*path));
        let mut text = String::new();
        UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        server.stop(PATIENCE).unwrap();
    });
}

#[test]
fn no_more_are_served_than_allowed_and_the_next_is_when_one_has_gone() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = StreamServer::new(listener, echo).unwrap().max_connections(2);
        server.start().unwrap();
        let (first, second, third) = (connect(&server), connect(&server), connect(&server));
        ping(&first).unwrap();
        ping(&second).unwrap();
        third.set_read_timeout(Some(SHORT)).unwrap();
        (&third).write_all(b"x").unwrap();
        let late = (&third).read(&mut [0]).unwrap_err();
        assert!(matches!(late.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{late}");
        assert_eq!(server.connections(), 2);
        drop(first);
        third.set_read_timeout(Some(PATIENCE)).unwrap();
        (&third).read_exact(&mut [0]).unwrap();
        server.stop(SHORT).unwrap_err();
    });
}

#[test]
fn servers_may_share_a_pool_and_stop_for_themselves() {
    in_time(|| {
        let pool = Pool::new(2);
        let servers = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let server = StreamServer::new(listener, echo).unwrap().pool(pool.clone());
            server.start().unwrap();
            server
        });
        // An acceptor has reserved a place each.
        yield_now();
        assert!(pool.is_full());
        let client = connect(&servers[1]);
        ping(&client).unwrap();
        let handler = pool.greenlets();
        assert_eq!(handler.len(), 1);
        servers[0].stop(PATIENCE).unwrap();
        ping(&client).unwrap();
        pool.kill_soon();
        until(|| handler[0].is_dead());
        assert_eq!(servers[1].connections(), 0);
        servers[1].stop(PATIENCE).unwrap();
        assert_eq!(pool.free_count(), 2);
    });
}

#[test]
fn a_handler_that_panics_costs_its_connection_only() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = Cell::new(true);
        let server = StreamServer::new(listener, move |stream, peer| {
            assert!(!first.replace(false), "the first connection has bad luck");
            echo(stream, peer);
        })
        .unwrap()
        .max_connections(1);
        server.start().unwrap();
        assert_eq!(connect(&server).read(&mut [0]).unwrap_or(0), 0, "it was closed");
        ping(&connect(&server)).unwrap();
        server.stop(PATIENCE).unwrap();
    });
}

#[test]
fn stop_waits_for_handlers_and_kills_the_stragglers() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let (flag, stubborn, done) = (RefCell::new(Some(flag)), Cell::new(false), Rc::new(Cell::new(false)));
        let finished = Rc::clone(&done);
        let server = serve(move |mut stream, _| {
            if stubborn.replace(true) {
                let _flag = flag.take();
                sleep(FOREVER);
            }
            let _ = stream.read(&mut [0]);
            sleep(SHORT);
            finished.set(true);
        });
        let (mut polite, _rude) = (connect(&server), connect(&server));
        until(|| server.connections() == 2);
        polite.write_all(b"x").unwrap();
        assert_eq!(server.stop(SHORT * 10), Err(WaitError::TimedOut));
        assert!(done.get() && dropped.get());
        assert_eq!((server.connections(), stats().greenlets), (0, 0));
        let error = server.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        server.stop(None).unwrap();
    });
}

#[test]
fn after_a_stop_the_port_is_free_and_nobody_is_let_in() {
    in_time(|| {
        let server = serve(echo);
        let addr = server.local_addr();
        yield_now();
        server.stop(None).unwrap();
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(TcpListener::bind(addr).unwrap());
        // one that was never started stops too
        let idle = StreamServer::new(TcpListener::bind(addr).unwrap(), echo).unwrap();
        idle.stop(None).unwrap();
        TcpListener::bind(addr).unwrap();
    });
}

#[test]
fn close_leaves_the_handlers_at_work() {
    in_time(|| {
        let server = serve(echo);
        let client = connect(&server);
        ping(&client).unwrap();
        let forever = spawn({
            let server = server.clone();
            move || server.serve_forever()
        });
        yield_now();
        server.close();
        forever.join_timeout(PATIENCE).unwrap().unwrap();
        TcpStream::connect(server.local_addr()).unwrap_err();
        ping(&client).unwrap();
        drop(client);
        until(|| stats().greenlets == 0);
    });
}

#[test]
fn accepting_can_be_stopped_and_started_again() {
    in_time(|| {
        let server = serve(echo);
        ping(&connect(&server)).unwrap();
        server.stop_accepting().unwrap();
        assert!(!server.is_started() && !server.is_closed());
        let waits = connect(&server);
        waits.set_read_timeout(Some(SHORT)).unwrap();
        (&waits).write_all(b"x").unwrap();
        (&waits).read(&mut [0]).unwrap_err();
        server.start().unwrap();
        server.start().unwrap();
        waits.set_read_timeout(Some(PATIENCE)).unwrap();
        (&waits).read_exact(&mut [0]).unwrap();
        drop(waits);
        server.stop(PATIENCE).unwrap();
    });
}

#[test]
fn a_handler_may_stop_its_own_server() {
    in_time(|| {
        let slot: Rc<RefCell<Option<StreamServer>>> = Rc::new(RefCell::new(None));
        let done = Rc::new(Event::new());
        let server = serve({
            let (slot, done) = (Rc::clone(&slot), Rc::clone(&done));
            move |_, _| {
                let server = slot.take().unwrap();
                server.stop(None).unwrap();
                done.set();
            }
        });
        slot.replace(Some(server.clone()));
        let forever = spawn({
            let server = server.clone();
            move || server.serve_forever()
        });
        yield_now();
        let _client = connect(&server);
        forever.join_timeout(PATIENCE).unwrap().unwrap();
        done.wait_timeout(PATIENCE).unwrap();
    });
}

#[test]
fn serve_forever_ends_with_stop_and_stops_when_it_is_interrupted() {
    in_time(|| {
        let server = serve(|_, _| sleep(FOREVER));
        let _client = connect(&server);
        until(|| server.connections() == 1);
        let forever = spawn({
            let server = server.clone();
            move || server.serve_forever()
        });
        yield_now();
        assert_eq!(server.stop(SHORT), Err(WaitError::TimedOut));
        forever.join_timeout(PATIENCE).unwrap().unwrap();

        let server = serve(echo);
        let client = connect(&server);
        ping(&client).unwrap();
        assert!(timeout(SHORT, || server.serve_forever()).is_err());
        until(|| !server.is_started() && server.is_closed());
        drop(client);
        until(|| stats().greenlets == 0);
    });
}

#[test]
fn a_listener_that_has_become_unusable_ends_the_server_with_its_error() {
    in_time(|| {
        let (listener, other) = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let other = listener.try_clone().unwrap();
            (listener, other)
        };
        let server = StreamServer::new(listener, echo).unwrap();
        let forever = spawn({
            let server = server.clone();
            move || server.serve_forever()
        });
        yield_now();
        // accept(2) says EINVAL from now on
        socket2::SockRef::from(&other).shutdown(std::net::Shutdown::Both).unwrap();
        let error = forever.join_timeout(PATIENCE).unwrap().unwrap_err();
        assert!(error.to_string().contains(&server.local_addr().to_string()), "{error}");
        assert!(server.is_closed() && !server.is_started());
    });
}

#[test]
fn others_get_their_turn_while_many_are_accepted() {
    in_time(|| {
        let accepted = Rc::new(Cell::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let counted = Rc::clone(&accepted);
        let server =
            StreamServer::new(listener, move |_, _| counted.set(counted.get() + 1)).unwrap().max_accept(5);
        // They are complete before the server looks.
        let clients: Vec<_> =
            (0..40).map(|_| std::net::TcpStream::connect(server.local_addr()).unwrap()).collect();
        server.start().unwrap();
        let mut seen = Vec::new();
        while accepted.get() < clients.len() {
            seen.push(accepted.get());
            yield_now();
        }
        assert!(seen.windows(2).all(|two| two[1] - two[0] <= 5), "{seen:?}");
        server.stop(PATIENCE).unwrap();
    });
}

/// Set in the child that may run out of descriptors.
const ROLE: &str = "RUNTIME_TEST_ROLE";

#[test]
fn without_descriptors_a_server_waits_with_one_warning_and_then_goes_on() {
    const TEST: &str = "servers::without_descriptors_a_server_waits_with_one_warning_and_then_goes_on";
    if env::var(ROLE).is_ok_and(|role| role == TEST) {
        return in_time(starve);
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, TEST)
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{told:?}");
}

fn starve() {
    logs::collect();
    let few = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the pointer is to a live rlimit which the kernel only reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) }, 0);
    let server = serve(echo);
    ping(&connect(&server)).unwrap();
    until(|| server.connections() == 0);
    let mut hogs: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    hogs.pop();
    let client = connect(&server);
    client.set_read_timeout(Some(Backoff::FIRST * 20)).unwrap();
    (&client).write_all(b"x").unwrap();
    (&client).read(&mut [0]).unwrap_err();
    let warned = |line: &str| line.starts_with("WARN can't accept connections for now");
    assert_eq!(logs::count(warned), 1, "one line, although it has tried several times");
    assert!(server.is_started());
    drop(hogs);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (&client).read_exact(&mut [0]).unwrap();
    assert!(logs::any(|line| line.contains("accepting connections again")));
    ping(&connect(&server)).unwrap();
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// A datagram server on a port of its own, and a client.
fn serve_datagrams(handler: impl Fn(Datagram) + 'static) -> (DatagramServer, UdpSocket) {
    let server = DatagramServer::new(UdpSocket::bind("127.0.0.1:0").unwrap(), handler).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (server, client)
}

#[test]
fn each_datagram_gets_a_handler_which_may_reply() {
    in_time(|| {
        let (server, client) = serve_datagrams(|datagram| {
            assert_ne!(datagram.data, b"bad", "on purpose");
            datagram.reply(&datagram.data).unwrap();
        });
        server.start().unwrap();
        client.send(b"bad").unwrap();
        let big = vec![7; 60_000];
        let mut buffer = vec![0; 65_535];
        for data in [&b"one"[..], b"", &big] {
            client.send(data).unwrap();
            let count = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], data);
        }
        server.stop(PATIENCE).unwrap();
        assert_eq!((server.handlers(), server.is_started(), server.is_closed()), (0, false, true));
        assert_eq!(stats().greenlets, 0);
        UdpSocket::bind(server.local_addr()).unwrap();
    });
}

#[test]
fn no_more_datagrams_are_handled_at_once_than_allowed() {
    in_time(|| {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (server, client) = serve_datagrams({
            let (now, most) = (Rc::clone(&now), Rc::clone(&most));
            move |datagram| {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                sleep(SHORT / 5);
                now.set(now.get() - 1);
                datagram.reply(b"done").unwrap();
            }
        });
        let server = server.max_handlers(2).max_size(4);
        server.start().unwrap();
        for _ in 0..10 {
            client.send(b"work to do").unwrap();
        }
        let mut buffer = [0; 16];
        for _ in 0..10 {
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        }
        assert_eq!(most.get(), 2);
        server.stop(PATIENCE).unwrap();
    });
}

#[test]
fn a_datagram_server_stops_as_a_stream_server_does() {
    in_time(|| {
        let (server, client) = serve_datagrams(|_| sleep(FOREVER));
        let forever = spawn({
            let server = server.clone();
            move || server.serve_forever()
        });
        client.send(b"x").unwrap();
        until(|| server.handlers() == 1);
        assert_eq!(server.stop(SHORT), Err(WaitError::TimedOut));
        forever.join_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(server.start().unwrap_err().kind(), ErrorKind::NotConnected);

        let gate = Rc::new(Event::new());
        let (server, client) = serve_datagrams({
            let gate = Rc::clone(&gate);
            move |datagram| {
                gate.wait().unwrap();
                datagram.reply(b"late").unwrap();
            }
        });
        server.start().unwrap();
        client.send(b"x").unwrap();
        until(|| server.handlers() == 1);
        server.close();
        yield_now();
        gate.set();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4, "a handler replies after the close");

        let (server, _client) = serve_datagrams(|_| ());
        assert!(timeout(SHORT, || server.serve_forever()).is_err());
        until(|| server.is_closed() && stats().greenlets == 0);
    });
}

#[test]
fn unix_datagrams_are_served_and_answered_by_path() {
    in_time(|| {
        let dir = Scratch::new();
        let (here, there) = (dir.join("server"), dir.join("client"));
        let refused = Rc::new(Cell::new(0));
        let server = DatagramServer::new(UnixDatagram::bind(&here).unwrap(), {
            let refused = Rc::clone(&refused);
            move |datagram: Datagram<UnixDatagram>| {
                refused.set(refused.get() + u32::from(datagram.reply(&datagram.data).is_err()));
            }
        })
        .unwrap();
        server.start().unwrap();
        let client = UnixDatagram::bind(&there).unwrap();
        client.send_to(b"hello", &here).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        UnixDatagram::unbound().unwrap().send_to(b"nobody", &here).unwrap();
        until(|| refused.get() == 1);
        server.stop(PATIENCE).unwrap();
    });
}
