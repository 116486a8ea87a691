//! The cheap load generator against small servers of known behaviour: OS threads with std's sockets.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use greenserve_benches::blast::{Answer, Blast, Edge, Pace, hold};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

/// A server that calls `answer` with the number of the request on its connection; an error ends the connection.
fn server(answer: impl Fn(&mut TcpStream, u64) -> io::Result<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut out = stream.unwrap();
                out.set_nodelay(true).unwrap();
                let (lines, mut number) = (BufReader::new(out.try_clone().unwrap()).lines(), 0);
                for _ in lines.map_while(Result::ok).filter(String::is_empty) {
                    if answer(&mut out, number).is_err() {
                        return;
                    }
                    number += 1;
                }
            });
        }
    });
    address
}

fn end() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn blast(address: SocketAddr, pace: Pace) -> Blast {
    let request = Blast::get(address, "/", pace == Pace::Closing);
    let answer = Answer::learn(address, &request, Some(2)).unwrap();
    Blast {
        address,
        request,
        answer,
        connections: 4,
        pace,
        spread: Duration::ZERO,
        warmup: Duration::from_millis(20),
        duration: Duration::from_millis(200),
    }
}

#[test]
fn answers_are_counted_however_the_connections_are_used() {
    for (body, pace) in [
        (OK, Pace::Closed { depth: 1 }),
        (OK, Pace::Closed { depth: 16 }),
        (CHUNKED, Pace::Closed { depth: 1 }),
        (OK, Pace::Open { rate: 500.0 }),
        (OK, Pace::Closing),
        (CHUNKED, Pace::Closing),
    ] {
        let served = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&served);
        let address = server(move |out, _| {
            count.fetch_add(1, Relaxed);
            out.write_all(body)?;
            if pace == Pace::Closing { Err(end()) } else { Ok(()) }
        });
        let mut edges = Vec::new();
        let outcome = blast(address, pace).run(|edge| edges.push(edge)).unwrap();
        assert_eq!((outcome.errors, &outcome.first_error), (0, &None), "{pace:?}");
        assert!(outcome.answers > 0 && outcome.answers <= served.load(Relaxed), "{pace:?}");
        assert_eq!(edges, [Edge::Begin, Edge::End]);
        let measured = if matches!(pace, Pace::Open { .. }) { outcome.answers } else { 0 };
        assert_eq!(outcome.latencies.len(), measured, "{pace:?}");
    }
}

#[test]
fn a_large_body_is_counted_although_nobody_looks_at_it() {
    let mut body = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".to_vec();
    body.resize(body.len() + 300_000, b'x');
    let address = server(move |out, _| out.write_all(&body));
    let request = Blast::get(address, "/", false);
    let answer = Answer::learn(address, &request, Some(300_000)).unwrap();
    let blast = Blast {
        address,
        request,
        answer,
        connections: 2,
        pace: Pace::Closed { depth: 1 },
        spread: Duration::from_millis(10),
        warmup: Duration::ZERO,
        duration: Duration::from_millis(200),
    };
    let outcome = blast.run(|_| ()).unwrap();
    assert!(outcome.answers > 0 && outcome.errors == 0, "{outcome:?}");
}

#[test]
fn what_goes_wrong_is_counted() {
    // the first answers are good: the one that is learnt from
    let address = server(|out, number| match number {
        0 => out.write_all(OK),
        _ => out.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"),
    });
    let error = blast(address, Pace::Closed { depth: 1 }).run(|_| ()).unwrap_err();
    assert!(error.to_string().contains("not the expected answer"), "{error}");

    let address = server(|out, number| if number < 3 { out.write_all(OK) } else { Err(end()) });
    let error = blast(address, Pace::Closed { depth: 1 }).run(|_| ()).unwrap_err();
    assert!(error.to_string().contains("ended a connection"), "{error}");
}

#[test]
fn only_a_good_answer_is_learnt_from() {
    let address = server(|out, _| out.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"));
    let request = Blast::get(address, "/", false);
    let error = Answer::learn(address, &request, None).unwrap_err();
    assert!(error.to_string().contains("answered by 404"), "{error}");
    let address = server(|out, _| out.write_all(OK));
    let error = Answer::learn(address, &request, Some(3)).unwrap_err();
    assert!(error.to_string().contains("has 2 bytes"), "{error}");
}

#[test]
fn held_connections_are_all_asked_once_and_kept() {
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    let address = server(move |out, _| {
        count.fetch_add(1, Relaxed);
        out.write_all(OK)
    });
    let request = Blast::get(address, "/", false);
    let answer = Answer::learn(address, &request, Some(2)).unwrap();
    let held = hold(address, &request, Some(answer), 20, Duration::from_secs(10)).unwrap();
    assert_eq!((served.load(Relaxed), held.stirred().unwrap()), (21, 0));
}
