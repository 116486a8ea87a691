//! Datagrams, and sockets of the unix domain.

use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use greenlet::net::{UdpSocket, UnixDatagram, UnixListener, UnixStream};
use greenlet::{sleep, spawn};
use greenserve_tests::{Scratch, in_time};

use crate::{FOREVER, SHORT};

#[test]
fn udp_sockets_exchange_datagrams() {
    in_time(|| {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let echo = spawn(move || {
            let mut buffer = [0; 100];
            for _ in 0..10 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&buffer[..length], from).unwrap();
            }
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(addr).unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr);
        for n in 0..10u8 {
            client.send(&[n; 5]).unwrap();
            let mut buffer = [0; 100];
            assert_eq!(client.peek(&mut buffer).unwrap(), 5);
            assert_eq!(client.recv(&mut buffer).unwrap(), 5);
            assert_eq!(&buffer[..5], &[n; 5]);
        }
        echo.join().unwrap();
    });
}

#[test]
fn a_datagram_that_does_not_come_is_not_waited_for_beyond_the_timeout() {
    in_time(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let error = socket.recv_from(&mut [0; 10]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
        let (one, _other) = UnixDatagram::pair().unwrap();
        one.set_read_timeout(Some(SHORT)).unwrap();
        assert!(one.recv(&mut [0; 10]).is_err());
    });
}

#[test]
fn a_second_reader_of_a_datagram_socket_is_an_error() {
    in_time(|| {
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let reader = || {
            let socket = Rc::clone(&socket);
            spawn(move || socket.recv_from(&mut [0; 10]).map(drop))
        };
        let first = reader();
        sleep(SHORT);
        assert_eq!(reader().join().unwrap().unwrap_err().kind(), ErrorKind::ResourceBusy);
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        first.join().unwrap().unwrap();
    });
}

#[test]
fn unix_streams_connect_echo_and_end() {
    in_time(|| {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.join("socket")).unwrap();
        let server = spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = UnixStream::connect(scratch.join("socket")).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "QUESTION");
        server.join().unwrap();
    });
}

#[test]
fn more_clients_than_a_unix_listener_has_room_for_wait_for_their_turn() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let listener = UnixListener::from(std::os::unix::net::UnixListener::bind(&path).unwrap());
        // a backlog that is soon full
        socket2::SockRef::from(&listener).listen(1).unwrap();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                spawn(move || {
                    let mut stream = UnixStream::connect(&path).unwrap();
                    stream.read(&mut [0; 1]).unwrap()
                })
            })
            .collect();
        sleep(SHORT);
        for _ in 0..20 {
            listener.accept().unwrap().0.write_all(b"x").unwrap();
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), 1);
        }
    });
}

#[test]
fn connecting_and_accepting_have_deadlines() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let listener = UnixListener::from(std::os::unix::net::UnixListener::bind(&path).unwrap());
        listener.set_accept_timeout(SHORT).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(listener.accept_timeout(), Some(SHORT));
        let zero = listener.set_accept_timeout(std::time::Duration::ZERO).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);

        socket2::SockRef::from(&listener).listen(0).unwrap();
        let _lets_in = UnixStream::connect_timeout(&path, FOREVER).unwrap();
        assert_eq!(UnixStream::connect_timeout(&path, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        listener.accept().unwrap();
    });
}

#[test]
fn unix_pairs_and_datagrams_work_both_ways() {
    in_time(|| {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let reader = spawn(move || {
            let mut buffer = [0; 5];
            other.read_exact(&mut buffer).unwrap();
            buffer
        });
        sleep(SHORT);
        one.write_all(b"hello").unwrap();
        assert_eq!(&reader.join().unwrap(), b"hello");

        let scratch = Scratch::new();
        let (a, b) = (scratch.join("a"), scratch.join("b"));
        let (first, second) = (UnixDatagram::bind(&a).unwrap(), UnixDatagram::bind(&b).unwrap());
        let receiver = spawn(move || {
            let mut buffer = [0; 100];
            let (length, from) = second.recv_from(&mut buffer).unwrap();
            (buffer[..length].to_vec(), from.as_pathname().map(ToOwned::to_owned))
        });
        sleep(SHORT);
        first.send_to(b"datagram", &b).unwrap();
        assert_eq!(receiver.join().unwrap(), (b"datagram".to_vec(), Some(a)));
    });
}

#[test]
fn closing_a_unix_listener_wakes_the_one_who_accepts() {
    in_time(|| {
        let scratch = Scratch::new();
        let listener = Rc::new(UnixListener::bind(scratch.join("socket")).unwrap());
        let acceptor = spawn({
            let listener = Rc::clone(&listener);
            move || listener.accept().map(drop)
        });
        sleep(SHORT);
        listener.close();
        assert!(acceptor.join().unwrap().is_err());
    });
}
