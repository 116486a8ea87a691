//! One connection's life over real sockets, with green threads and with OS threads: from request to request, and its end.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenserve::{Body, BodyError, IntoResponse, Request};
use support::{Mode, Running, both, split};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers with the method, the target and the body.
fn echo(mut req: Request) -> std::io::Result<String> {
    let mut body = String::new();
    req.body_mut().read_to_string(&mut body)?;
    Ok(format!("{} {} [{body}]", req.method(), req.raw_target()))
}

#[test]
fn a_request_gets_its_answer_and_the_connection_lives_on() {
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let mut client = server.client();
        for n in 0..3 {
            client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.until("\r\n\r\n");
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("content-length: 9\r\n") && head.contains("\r\ndate: "), "{head}");
            assert!(!head.contains("connection:"), "{head}");
            assert_eq!(client.until("]"), format!("GET /{n} []"));
        }
    });
}

#[test]
fn rfc9110_10_1_1_continue_is_sent_when_the_handler_first_reads() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| match req.path() {
                "/read" => echo(req).into_response(),
                "/stream" => Body::reader(req.into_body(), None).into_response(),
                _ => "unread".into_response(),
            },
        );
        let head = |path| {
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        };
        let mut client = server.client();
        client.send(head("/read"));
        assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hi");
        assert!(client.until("]").starts_with("HTTP/1.1 200 OK\r\n"));
        // Read only while the answer is under way.
        client.send(head("/stream"));
        assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ho");
        assert!(client.until("0\r\n\r\n").ends_with("2\r\nho\r\n0\r\n\r\n"));
        // Never read: no 100, and since nobody knows whether the body comes, no next request.
        client.send(head("/unread"));
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nunread"));
    });
}

#[test]
fn an_unread_body_is_drained_within_bounds() {
    both(|mode| {
        let server = Running::start(mode, |s| s, |req: Request| req.path().to_owned());
        let mut client = server.client();
        for body in [
            format!("Content-Length: 5000\r\n\r\n{}", "x".repeat(5000)),
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
        ] {
            client.send(format!("POST /small HTTP/1.1\r\nHost: a\r\n{body}"));
            client.until("/small");
        }
        // Too much to be read away: the answer still arrives whole although the client goes on sending.
        let big = 5_000_000;
        client.send(format!("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: {big}\r\n\r\n"));
        client.send(vec![b'x'; big]);
        let answer = client.rest();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("/big"), "{answer}");
    });
}

#[test]
fn a_stale_body_is_an_error() {
    both(|mode| {
        thread_local!(static KEPT: std::cell::RefCell<Option<Body>> = const { std::cell::RefCell::new(None) });
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| {
                let kept = KEPT.take();
                KEPT.set(Some(req.into_body()));
                match kept.map(Body::into_bytes) {
                    None => "first".to_owned(),
                    Some(Ok(bytes)) => format!("read {}", bytes.len()),
                    Some(Err(error)) => format!("{:?}", BodyError::of(&error)),
                }
            },
        );
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        client.until("first");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\ndef");
        assert!(client.rest().ends_with("Some(Finished)"));
    });
}

#[test]
fn a_body_that_is_kept_does_not_keep_the_connection() {
    both(|mode| {
        thread_local!(static KEPT: std::cell::RefCell<Vec<Body>> = const { std::cell::RefCell::new(Vec::new()) });
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| KEPT.with_borrow_mut(|kept| kept.push(req.into_body())),
        );
        assert!(server.answer("GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
        server.stop();
    });
}

#[test]
fn slow_heads_and_bodies_are_408_and_the_silent_are_closed() {
    let short = Duration::from_millis(150);
    both(|mode| {
        let server = Running::start(
            mode,
            move |s| s.header_timeout(short).body_timeout(short).keep_alive(short),
            echo,
        );
        // The budget is for the whole: a byte now and then does not extend it.
        for start in ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"] {
            let mut client = server.client();
            client.send(start);
            let mut sender = client.stream.try_clone().unwrap();
            let drip = std::thread::spawn(move || {
                let began = std::time::Instant::now();
                while began.elapsed() < support::PATIENCE && sender.write_all(b"T").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                began.elapsed() < support::PATIENCE
            });
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            client.stream.shutdown(Shutdown::Both).unwrap();
            assert!(drip.join().unwrap(), "the server never closed");
        }
        assert_eq!(server.client().rest(), "", "a client that says nothing");
        let mut idle = server.client();
        idle.send(GET);
        assert!(idle.rest().ends_with("GET / []"), "an idle connection is closed without a word");
    });
}

#[test]
fn context_local_values_end_with_their_request() {
    ctxlocal::ctxlocal! { static SEEN: AtomicUsize = AtomicUsize::new(0); }
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |_| SEEN.with(|seen| seen.fetch_add(1, Ordering::Relaxed)).to_string(),
        );
        let mut client = server.client();
        client.send([GET, GET, GET].concat());
        client.finish();
        let answers = client.rest();
        assert_eq!(
            answers.split("HTTP/1.1").skip(1).map(|one| split(one).1).collect::<Vec<_>>(),
            ["0", "0", "0"]
        );
    });
}

#[test]
fn unix_sockets_are_served_and_their_file_goes_with_the_server() {
    both(serve_unix);
}

fn serve_unix(mode: Mode) {
    let path = std::env::temp_dir().join(format!("greenserve-unix-{mode:?}-{}", std::process::id()));
    let server = greenserve::Server::bind(format!("unix:{}", path.display())).unwrap();
    let handle = server.handle();
    let app = |req: Request| format!("{} {}", req.peer_addr().unwrap(), req.local_addr().unwrap());
    let thread = std::thread::spawn(move || match mode {
        Mode::Green => server.serve(app),
        Mode::Threads => server.serve_threads(app),
    });
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("unix: unix:{}", path.display())), "{answer}");
    handle.stop();
    thread.join().unwrap().unwrap();
    assert!(!path.exists());
}
