//! Connecting to hosts with several addresses: Happy Eyeballs (RFC 8305).

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenlet::net::{ConnectError, Connector, TcpListener, TcpStream, create_connection};
use greenlet::{sleep, spawn, stats};
use greenserve_tests::in_time;
use socket2::{Domain, Socket, Type};

use crate::{FOREVER, SHORT};

/// An address at which nobody listens: bound, so that nobody else can.
fn refused() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A listener whose backlog is full: it lets nobody in and refuses nobody.
struct BlackHole {
    _listener: Socket,
    _fillers: Vec<Socket>,
    address: SocketAddr,
}

impl BlackHole {
    fn new() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let local = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        // The last one is not let in any more.
        loop {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let full = filler.connect_timeout(&local, Duration::from_millis(100)).is_err();
            fillers.push(filler);
            assert!(fillers.len() < 10, "the backlog of 0 takes this many");
            if full {
                break;
            }
        }
        BlackHole { _listener: listener, _fillers: fillers, address: local.as_socket().unwrap() }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_refused_address_is_followed_at_once_by_the_next() {
    in_time(|| {
        let (_socket, refused) = refused();
        let (_listener, address) = listener();
        // A delay that a test would notice: the failure ends it.
        let start = Instant::now();
        let connector = Connector::new().attempt_delay(Duration::from_secs(2));
        let stream = connector.connect(&[refused, refused, address][..]).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(stream.peer_addr().unwrap(), address);
    });
}

#[test]
fn a_silent_address_does_not_hold_up_the_others_which_are_tried_beside_it() {
    in_time(|| {
        let (hole, (_listener, address)) = (BlackHole::new(), listener());
        let stream = TcpStream::connect(&[hole.address, hole.address, address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        drop(stream);
        assert_eq!((stats().descriptors, stats().timers), (0, 0), "the losers are closed");
    });
}

#[test]
fn the_winner_works_although_others_were_under_way() {
    use std::io::{Read, Write};

    in_time(|| {
        let (hole, (listener, address)) = (BlackHole::new(), listener());
        let serving = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let mut stream = TcpStream::connect(&[hole.address, address][..]).unwrap();
        stream.write_all(b"hello").unwrap();
        drop(stream);
        assert_eq!(serving.join().unwrap(), "hello");
    });
}

#[test]
fn the_error_names_every_attempt() {
    in_time(|| {
        let ((_one, first), (_two, second)) = (refused(), refused());
        let error = TcpStream::connect(&[first, second][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "{text}");
        let attempts = error.get_ref().unwrap().downcast_ref::<ConnectError>().unwrap().attempts();
        assert_eq!(attempts.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [first, second]);
    });
}

#[test]
fn when_the_time_is_over_the_error_says_who_was_silent_and_nothing_is_left() {
    in_time(|| {
        let (hole, (_socket, refused)) = (BlackHole::new(), refused());
        let error = create_connection(&[refused, hole.address][..], Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let text = error.to_string();
        assert!(text.contains(&format!("{}: timed out", hole.address)) && text.contains("refused"), "{text}");
        // too short for the second attempt to begin
        let error = create_connection(&[hole.address, refused][..], SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("1 more"), "{error}");
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
    });
}

#[test]
fn a_killed_greenlet_leaves_no_attempt_behind() {
    in_time(|| {
        let hole = BlackHole::new();
        let address = hole.address;
        let connector = Connector::new().attempt_delay(Duration::from_millis(10));
        let connecting = spawn(move || connector.connect(&[address, address, address][..]).map(drop));
        while stats().descriptors < 2 {
            sleep(Duration::from_millis(1));
        }
        connecting.kill().unwrap();
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
    });
}

#[test]
fn the_source_address_is_the_clients() {
    in_time(|| {
        let (listener, address) = listener();
        let v6: SocketAddr = "[::1]:9".parse().unwrap();
        let connector = Connector::new().timeout(FOREVER).source_address("127.0.0.9:0".parse().unwrap());
        let stream = connector.connect(&[v6, address][..]).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        let error = connector.connect(v6).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("IPv4"), "{error}");
    });
}

#[test]
fn settings_out_of_bounds_are_refused_with_what_would_be_right() {
    in_time(|| {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let error = Connector::new().attempt_delay(Duration::from_millis(9)).connect(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("9ms") && error.to_string().contains("10ms to 2s"), "{error}");
        assert_eq!(create_connection(address, Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
        let none: &[SocketAddr] = &[];
        assert_eq!(TcpStream::connect(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}
