//! One connection's life over real sockets, with green threads and with OS threads: what exact bytes come back for exact
//! bytes.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenserve::http::Limits;
use greenserve::{AccessLog, Body, BodyError, Exchange, IntoResponse, Request, Response, StatusCode};
use support::{Mode, Running, both, hello, split};

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
fn rfc9112_9_3_who_asks_for_close_gets_it() {
    both(|mode| {
        let server = Running::start(mode, |s| s, hello);
        for request in ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let answer = server.answer(request);
            assert!(
                answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nhello"),
                "{answer}"
            );
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let mut client = server.client();
        for _ in 0..2 {
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            assert!(client.until("hello").contains("connection: keep-alive\r\n"));
        }
    });
}

#[test]
fn keep_alive_zero_is_one_request_per_connection() {
    both(|mode| {
        let server = Running::start(mode, |s| s.keep_alive(Duration::ZERO), hello);
        let answer = server.answer([GET, GET].concat());
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"));
    });
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order() {
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let mut client = server.client();
        let mut all = String::new();
        for n in 0..200 {
            all.push_str(&format!(
                "POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{:02}",
                n % 100
            ));
        }
        client.send(all);
        client.finish();
        let answers = client.rest();
        let bodies: Vec<_> =
            answers.split("HTTP/1.1 200 OK").skip(1).map(|one| split(one).1.to_owned()).collect();
        let expected: Vec<_> = (0..200).map(|n| format!("POST /{n} [{:02}]", n % 100)).collect();
        assert_eq!(bodies, expected);
    });
}

#[test]
fn answers_do_not_depend_on_how_the_input_is_cut() {
    let stream = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n\
                  GET /2 HTTP/1.1\r\nHost: a\r\n\r\nPOST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz";
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let bodies = |answers: String| -> Vec<String> {
            answers.split("HTTP/1.1 200 OK").skip(1).map(|one| split(one).1.to_owned()).collect()
        };
        let whole = bodies(server.answer(stream));
        assert_eq!(whole, ["POST /1 [abcde]", "GET /2 []", "POST /3 [xyz]"]);
        let mut client = server.client();
        for byte in stream.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(bodies(client.rest()), whole, "byte by byte");
        for cut in (1..stream.len()).step_by(7) {
            let mut client = server.client();
            client.send(&stream[..cut]);
            std::thread::yield_now();
            client.send(&stream[cut..]);
            assert_eq!(bodies(client.rest()), whole, "cut at {cut}");
        }
    });
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_first_and_nothing_after() {
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let answer = server.answer(format!("{GET}GET /bad HTTP/1.1\r\n\r\n{GET}"));
        let statuses: Vec<_> =
            answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "400"], "{answer}");
        assert!(answer.ends_with("Bad Request: there is no Host\n"), "{answer}");
    });
}

#[test]
fn malformed_requests_get_their_status_and_a_closed_connection() {
    let limits = Limits {
        request_line: 50,
        request_fields: 2,
        request_field_size: 50,
        request_body: 10,
        ..Limits::default()
    };
    let long = "x".repeat(60);
    let rows = [
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\n\r\n".into(), 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".into(), 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x-new, chunked\r\n\r\n".into(), 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n".into(), 417),
        ("GET /\r\n".into(), 400),
        ("\x16\x03\x01\0\x05hello".into(), 400),
    ];
    both(|mode| {
        let (limits, called) = (limits.clone(), Arc::new(AtomicBool::new(false)));
        let calling = Arc::clone(&called);
        let server =
            Running::start(mode, move |s| s.limits(limits), move |_| calling.store(true, Ordering::SeqCst));
        for (request, status) in &rows {
            let answer = server.answer(request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        assert!(!called.load(Ordering::SeqCst));
    });
}

#[test]
fn rfc9112_8_the_end_inside_a_head_never_serves_it() {
    both(|mode| {
        let server = Running::start(mode, |s| s, hello);
        for end in 1..GET.len() {
            let mut client = server.client();
            client.send(&GET[..end]);
            client.finish();
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 400 "), "cut at {end}: {answer:?}");
        }
        let mut silent = server.client();
        silent.finish();
        assert_eq!(silent.rest(), "");
    });
}

#[test]
fn rfc9112_8_a_body_that_ends_early_is_an_error_and_never_a_short_body() {
    both(|mode| {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&errors);
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let body = req.into_body().into_bytes();
                seen.lock().unwrap().push(
                    body.as_ref().map(|bytes| bytes.len()).map_err(|error| BodyError::of(error).unwrap()),
                );
                body
            },
        );
        for head in [
            "Content-Length: 9\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let mut client = server.client();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
            client.finish();
            let answer = client.rest();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
            assert!(answer.contains("connection: close\r\n"));
        }
        assert_eq!(*errors.lock().unwrap(), [Err(BodyError::Incomplete); 3]);
    });
}

#[test]
fn a_malformed_chunked_body_is_400_if_the_handler_lets_the_error_through() {
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let answer = server.answer(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n{GET}"
        ));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("chunk size"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    });
}

#[test]
fn a_chunked_body_beyond_the_limit_is_413() {
    both(|mode| {
        let limits = Limits { request_body: 4, ..Limits::default() };
        let server = Running::start(mode, |s| s.limits(limits), echo);
        let chunked = |body: &str| {
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"
            )
        };
        assert!(server.answer(chunked("4\r\nabcd\r\n")).ends_with("POST / [abcd]"));
        assert!(server.answer(chunked("4\r\nabcd\r\n1\r\ne\r\n")).starts_with("HTTP/1.1 413 "));
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
fn a_half_closed_client_gets_its_answer() {
    both(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let mut client = server.client();
        client.send(format!("{GET}POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
        client.finish();
        let answer = client.rest();
        assert!(answer.contains("GET / []") && answer.ends_with("POST /2 [x]"), "{answer}");
    });
}

#[test]
fn streams_are_chunked_and_flushed_when_asked() {
    both(|mode| {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let server = Running::start(
            mode,
            |s| s,
            move |_| {
                let gone = Arc::clone(&gone);
                Body::stream(move |out| {
                    out.write_all(b"one")?;
                    out.write_all(b"")?;
                    out.write_all(b"two")?;
                    out.flush()?;
                    gone.lock().unwrap().recv_timeout(support::PATIENCE).map_err(std::io::Error::other)?;
                    out.flush()?;
                    out.write_all(&[b'x'; 20])?;
                    out.write_all(&vec![b'y'; 40_000])
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        let head = client.until("\r\n\r\n");
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{head}"
        );
        assert_eq!(client.until("two\r\n"), "6\r\nonetwo\r\n");
        go.send(()).unwrap();
        let rest = client.until("0\r\n\r\n");
        assert_eq!(rest, format!("{:x}\r\n{}{}\r\n0\r\n\r\n", 40_020, "x".repeat(20), "y".repeat(40_000)));
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        go.send(()).unwrap();
        let old = client.rest();
        assert!(
            !split(&old).0.contains("transfer-encoding") && old.contains("connection: close"),
            "{}",
            split(&old).0
        );
        assert_eq!(split(&old).1.len(), 6 + 20 + 40_000);
    });
}

#[test]
fn head_204_304_205_carry_no_body() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| {
                let status: u16 = req.path()[1..].parse().unwrap();
                (StatusCode::from_u16(status).unwrap(), Body::from("body"))
            },
        );
        let mut client = server.client();
        client.send("HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\n\r\nGET /205 HTTP/1.1\r\nHost: a\r\n\r\n");
        let heads: Vec<_> = (0..4).map(|_| client.until("\r\n\r\n")).collect();
        assert!(heads[0].contains("content-length: 4\r\n"), "{heads:?}");
        for (head, status) in heads[1..].iter().zip([204, 304, 205]) {
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{heads:?}");
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{heads:?}");
        }
        assert_eq!(client.rest(), "");
    });
}

#[test]
fn an_applications_framing_headers_never_reach_the_wire() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |_| {
                (
                    [
                        ("transfer-encoding", "gzip"),
                        ("keep-alive", "9"),
                        ("connection", "x, Close"),
                        ("x-mine", "1"),
                    ],
                    Body::from("abc"),
                )
            },
        );
        let answer = server.answer(GET);
        let head = split(&answer).0;
        assert!(!head.contains("gzip") && !head.contains("keep-alive"), "{head}");
        assert!(
            head.contains("connection: close")
                && head.contains("x-mine: 1")
                && head.contains("content-length: 3")
        );
    });
}

#[test]
fn a_body_that_breaks_its_word_ends_the_connection() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| match req.path() {
                "/short" => Body::sized_stream(10, |out| out.write_all(b"short")).into_response(),
                "/long" => Body::sized_stream(4, |out| out.write_all(b"longer")).into_response(),
                "/header-short" => ([("content-length", "10")], Body::from("short")).into_response(),
                _ => ([("content-length", "4")], Body::from("longer")).into_response(),
            },
        );
        for (path, head, body) in [
            ("/short", 10, "short"),
            ("/long", 4, "long"),
            ("/header-short", 10, "short"),
            ("/header-long", 4, "long"),
        ] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = client.rest_lossy();
            assert!(answer.contains(&format!("content-length: {head}\r\n")), "{answer}");
            assert_eq!(split(&answer).1, body, "{path}");
        }
        let mut client = server.client();
        client.send([GET.replace("/ ", "/long "), GET.into()].concat());
        assert_eq!(client.rest().matches("HTTP/1.1").count(), 1, "nothing follows a body that was cut");
    });
}

#[test]
fn a_panic_is_500_and_harms_nobody_else() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| -> Response {
                match req.path() {
                    "/panic" => panic!("on purpose"),
                    "/mid" => Body::stream(|out| {
                        out.write_all(b"first")?;
                        out.flush()?;
                        panic!("on purpose")
                    })
                    .into_response(),
                    "/unflushed" => Body::stream(|out| {
                        out.write_all(b"first")?;
                        panic!("on purpose")
                    })
                    .into_response(),
                    _ => "fine".into_response(),
                }
            },
        );
        for path in ["/panic", "/unflushed"] {
            let answer = server.answer(format!("{GET}GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("HTTP/1.1 500 ") && answer.contains("connection: close"), "{answer}");
            assert!(!answer.contains("on purpose") && !answer.contains("first"), "{answer}");
        }
        let mut client = server.client();
        client.send("GET /mid HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest_lossy();
        assert!(answer.ends_with("5\r\nfirst\r\n"), "no last chunk: {answer}");
        assert_eq!(split(&server.answer(GET.replace("Host: a", "Host: a\r\nConnection: close"))).1, "fine");
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
fn a_client_that_takes_nothing_is_given_up() {
    both(|mode| {
        let outcome = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&outcome);
        let server = Running::start(
            mode,
            |s| s.write_timeout(Duration::from_millis(200)),
            move |_| {
                let seen = Arc::clone(&seen);
                Body::stream(move |out| {
                    let piece = vec![0; 1 << 20];
                    let error = (0..1000).find_map(|_| out.write_all(&piece).err());
                    *seen.lock().unwrap() = error.as_ref().map(std::io::Error::kind);
                    Err(error.unwrap())
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        let began = std::time::Instant::now();
        while outcome.lock().unwrap().is_none() {
            assert!(began.elapsed() < support::PATIENCE, "the writer never gave up");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(client);
    });
}

#[test]
fn files_are_sent_whole_and_in_part() {
    let path = std::env::temp_dir().join(format!("greenserve-file-{}", std::process::id()));
    let content: String = (0..300_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    std::fs::write(&path, &content).unwrap();
    both(|mode| {
        let path = path.clone();
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let file = std::fs::File::open(&path).unwrap();
                match req.path() {
                    "/all" => Body::file(file, 0, 300_000),
                    "/part" => Body::file(file, 100_000, 50_000),
                    "/small" => Body::file(file, 5, 10),
                    _ => Body::file(file, 250_000, 100_000),
                }
            },
        );
        let get = |path| {
            let answer =
                server.answer(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            split(&answer).1.to_owned()
        };
        assert!(get("/all") == content);
        assert!(get("/part") == content[100_000..150_000]);
        assert_eq!(get("/small"), &content[5..15]);
        let mut client = server.client();
        client.send("GET /beyond HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest_lossy();
        assert!(
            answer.contains("content-length: 100000\r\n") && split(&answer).1.len() == 50_000,
            "never padded"
        );
    });
    std::fs::remove_file(&path).unwrap();
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
fn the_access_log_hears_of_every_answer() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl AccessLog for Lines {
        fn log(&self, exchange: &Exchange<'_>) {
            let line =
                format!("{:?} {} {}", exchange.request_line(), exchange.status.as_u16(), exchange.body_sent);
            self.0.lock().unwrap().push(line);
        }
    }
    both(|mode| {
        let lines = Lines::default();
        let log = lines.clone();
        let server = Running::start(
            mode,
            |s| s.access_log(log),
            |req: Request| match req.path() {
                "/panic" => panic!("on purpose"),
                _ => Body::stream(|out| out.write_all(b"12345")),
            },
        );
        server.answer(format!("{GET}GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"));
        server.answer("nonsense\r\n");
        server.stop();
        let mut lines = lines.0.lock().unwrap().clone();
        lines.sort();
        assert_eq!(
            lines,
            ["None 400 64", "Some(\"GET / HTTP/1.1\") 200 5", "Some(\"GET /panic HTTP/1.1\") 500 22"]
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
