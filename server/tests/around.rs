//! What happens around a request in its connection's green thread, or thread: work after the response, values that end
//! with it, and clients that leave.

mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenserve::{AccessLog, Body, Exchange, IntoResponse, Leaving, Request, Response, after_response};
use socket2::SockRef;
use support::{Mode, PATIENCE, Running, all_ways, plain_and_tls};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

ctxlocal::ctxlocal! {
    static SEEN: Cell<u32> = Cell::new(0);
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Suspends the handler until there is something in the channel, in the way of the mode.
fn wait_for(mode: Mode, gate: &Mutex<Receiver<()>>) {
    let began = Instant::now();
    while gate.lock().unwrap().try_recv().is_err() {
        assert!(began.elapsed() < PATIENCE, "nobody opens the gate");
        match mode {
            Mode::Green => greenlet::sleep(Duration::from_millis(2)),
            Mode::Threads => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn channel() -> (Arc<Mutex<Sender<String>>>, Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    (Arc::new(Mutex::new(sender)), receiver)
}

fn next(events: &Receiver<String>) -> String {
    events.recv_timeout(PATIENCE).expect("an event")
}

/// Tells what is logged.
struct Statuses(Arc<Mutex<Sender<String>>>);

impl AccessLog for Statuses {
    fn log(&self, exchange: &Exchange<'_>) {
        let line = format!("{} {}", exchange.target().unwrap_or("-"), exchange.status.as_u16());
        let _ = self.0.lock().unwrap().send(line);
    }
}

#[test]
fn work_after_the_response_runs_when_the_client_has_it_and_before_the_next_request() {
    all_ways(|mode| {
        let (open, gate) = mpsc::channel();
        let (events, heard) = channel();
        let (tell, gate) = (Arc::clone(&events), Arc::new(Mutex::new(gate)));
        let app = move |req: Request| {
            let say = |text: String| tell.lock().unwrap().send(text).unwrap();
            say(format!("handler {}", req.path()));
            if req.path() == "/first" {
                SEEN.set(7);
                let (tell, gate) = (Arc::clone(&tell), Arc::clone(&gate));
                after_response(move || {
                    wait_for(mode, &gate);
                    tell.lock().unwrap().send(format!("work sees {}", SEEN.get())).unwrap();
                    after_response(move || tell.lock().unwrap().send("third".into()).unwrap());
                });
                let tell = Arc::clone(&events);
                after_response(move || tell.lock().unwrap().send("second".into()).unwrap());
            }
            "done"
        };
        let (statuses, log) = channel();
        let server = Running::start(mode, move |s| s.access_log(Statuses(statuses)), app);
        let mut client = server.client();
        // The second one has come already: its answer must not wait for that one's.
        client.send(get("/first") + &get("/second"));
        assert!(client.until("done").contains("200 OK"));
        assert_eq!((next(&heard), next(&log)), ("handler /first".into(), "/first 200".into()));
        assert!(heard.try_recv().is_err(), "the work waits, and with it the next request");
        open.send(()).unwrap();
        for expected in ["work sees 7", "second", "third", "handler /second"] {
            assert_eq!(next(&heard), expected);
        }
        client.until("done");
    });
}

#[test]
fn a_client_that_waits_for_the_end_of_the_connection_does_not_wait_for_the_work() {
    all_ways(|mode| {
        let (open, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let app = move |_| {
            let gate = Arc::clone(&gate);
            after_response(move || wait_for(mode, &gate));
            Body::stream(|out| out.write_all(b"all"))
        };
        let server = Running::start(mode, |s| s, app);
        let answer = server.answer("GET / HTTP/1.0\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\nall"), "{answer}");
        open.send(()).unwrap();
    });
}

#[test]
fn work_after_the_response_runs_however_the_request_went_and_may_panic_itself() {
    all_ways(|mode| {
        let (events, heard) = channel();
        let app = move |req: Request| -> Response {
            let tell = Arc::clone(&events);
            let path = req.path().to_owned();
            after_response(|| panic!("as it was asked to"));
            after_response(move || tell.lock().unwrap().send(path).unwrap());
            match req.path() {
                "/panic" => panic!("as it was asked to"),
                "/short" => Body::sized_stream(9, |out| out.write_all(b"short")).into_response(),
                "/slow" if mode == Mode::Green => {
                    greenlet::sleep(Duration::from_secs(3600));
                    unreachable!("the request timeout ends it")
                }
                "/gone" => Body::stream(|out| {
                    loop {
                        out.write_all(&[b'x'; 100_000])?;
                    }
                })
                .into_response(),
                _ => "fine".into_response(),
            }
        };
        let server = Running::start(mode, |s| s.request_timeout(Duration::from_secs(2)), app);
        let mut client = server.client();
        for _ in 0..2 {
            client.send(get("/fine"));
            client.until("fine");
            assert_eq!(next(&heard), "/fine");
        }
        for (path, status) in [("/panic", "500"), ("/short", "200"), ("/slow", "")] {
            let answer = server.answer(get(path) + "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(answer.contains(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
            assert_eq!(next(&heard), path);
            if path != "/slow" || mode == Mode::Green {
                assert!(heard.try_recv().is_err());
            }
        }
        while heard.try_recv().is_ok() {}
        let mut leaves = server.client();
        leaves.send(get("/gone"));
        leaves.until("xxxx");
        drop(leaves);
        assert_eq!(next(&heard), "/gone");
    });
}

#[test]
fn work_after_the_response_has_its_time_for_itself_and_a_graceful_stop_waits_for_it() {
    let (events, heard) = channel();
    let (open, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let app = move |_| {
        let (tell, gate) = (Arc::clone(&events), Arc::clone(&gate));
        after_response(move || {
            greenlet::sleep(Duration::from_millis(60));
            wait_for(Mode::Green, &gate);
            tell.lock().unwrap().send("worked".into()).unwrap();
        });
        "done"
    };
    let server = Running::start(Mode::Green, |s| s.request_timeout(Duration::from_millis(30)), app);
    let mut client = server.client();
    client.send(GET);
    client.until("done");
    server.handle.stop();
    open.send(()).unwrap();
    server.stop();
    assert_eq!(heard.try_recv().as_deref(), Ok("worked"), "the server waited for it");
}

#[test]
fn a_green_thread_that_a_handler_spawns_lives_on_and_a_stop_does_not_wait_for_it() {
    let (events, heard) = channel();
    let (open, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let app = move |req: Request| {
        let (tell, gate, ends) = (Arc::clone(&events), Arc::clone(&gate), req.path() == "/ends");
        greenlet::spawn(move || {
            if !ends {
                greenlet::sleep(Duration::from_secs(3600));
            }
            wait_for(Mode::Green, &gate);
            tell.lock().unwrap().send("background".into()).unwrap();
        });
        "done"
    };
    let server = Running::start(Mode::Green, |s| s, app);
    assert!(server.answer("GET /ends HTTP/1.0\r\n\r\n").ends_with("done"));
    open.send(()).unwrap();
    assert_eq!(next(&heard), "background", "after its request and its connection");
    assert!(server.answer("GET /stays HTTP/1.0\r\n\r\n").ends_with("done"));
    server.stop();
}

#[test]
fn a_requests_values_are_gone_before_the_next_whatever_became_of_it() {
    all_ways(|mode| {
        let app = |req: Request| -> Response {
            SEEN.set(SEEN.get() + 1);
            match req.path() {
                "/panic" => panic!("as it was asked to"),
                "/field" => {
                    greenserve::log::field("user", 17);
                    greenserve::log::request_id();
                }
                _ => {}
            }
            format!("[{} {}]", SEEN.get(), greenserve::log::fields().count()).into_response()
        };
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send(get("/field"));
        client.until("[1 2]");
        client.send([get("/"), get("/field"), get("/"), get("/panic")].concat());
        for expected in ["[1 0]", "[1 2]", "[1 0]", "HTTP/1.1 500"] {
            client.until(expected);
        }
        // Whoever is next in this thread.
        server.client().send(GET);
        assert!(server.answer("GET / HTTP/1.0\r\n\r\n").ends_with("[1 0]"));
    });
}

#[test]
fn values_of_a_request_whose_green_thread_was_killed_are_dropped() {
    struct Told(Arc<Mutex<Sender<String>>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.lock().unwrap().send("dropped".into());
        }
    }
    let (events, heard) = channel();
    let (entered, has_entered) = channel();
    let app = move |_: Request| {
        ctxlocal::dynamic::set("told", Told(Arc::clone(&events)));
        after_response(|| unreachable!("it was killed"));
        entered.lock().unwrap().send(String::new()).unwrap();
        greenlet::sleep(Duration::from_secs(3600));
        "never"
    };
    let server = Running::start(Mode::Green, |s| s.graceful_timeout(Duration::from_millis(10)), app);
    let mut client = server.client();
    client.send(GET);
    next(&has_entered);
    server.handle.stop();
    assert_eq!(next(&heard), "dropped");
    client.rest();
}

#[test]
fn who_is_killed_at_the_end_of_the_graceful_timeout_gets_503() {
    let (entered, has_entered) = channel();
    let app = move |req: Request| -> Response {
        let tell = Arc::clone(&entered);
        let enter = move || tell.lock().unwrap().send(String::new()).unwrap();
        match req.path() {
            "/stream" => Body::stream(move |out| {
                out.write_all(b"begun")?;
                out.flush()?;
                enter();
                greenlet::sleep(Duration::from_secs(3600));
                Ok(())
            })
            .into_response(),
            "/gathered" => Body::stream(move |out| {
                out.write_all(b"never sent")?;
                enter();
                greenlet::sleep(Duration::from_secs(3600));
                Ok(())
            })
            .into_response(),
            _ => {
                enter();
                greenlet::sleep(Duration::from_secs(3600));
                "never".into_response()
            }
        }
    };
    let (statuses, log) = channel();
    let setup = move |s: greenserve::Server| {
        s.graceful_timeout(Duration::from_millis(50)).access_log(Statuses(statuses))
    };
    let server = Running::start(Mode::Green, setup, app);
    let mut clients: Vec<_> = ["/sleep", "/gathered", "/stream"]
        .map(|path| {
            let mut client = server.client();
            // What it sends behind must not make the end a reset, by which the answer could be lost.
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{GET}"));
            client
        })
        .into();
    let mut head = server.client();
    head.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut old = server.client();
    old.send("GET /stream HTTP/1.0\r\n\r\n");
    (0..5).for_each(|_| drop(next(&has_entered)));
    let mut partial = server.client();
    partial.send("GET / HT");
    // It has begun to be read once others that came later were served.
    let served = server.answer("GET /refused HTTP/9.9\r\n\r\n");
    assert!(served.starts_with("HTTP/1.1 505"), "{served}");
    server.handle.stop();
    let streamed = clients.pop().unwrap().rest_lossy();
    assert!(streamed.ends_with("5\r\nbegun\r\n"), "nothing that would end the body: {streamed}");
    let cut = old.stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(cut, Err(std::io::ErrorKind::ConnectionReset), "an old client must be able to tell, too");
    clients.push(partial);
    for mut client in clients {
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(
            answer.contains("connection: close\r\n") && answer.ends_with("Service Unavailable\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    let answer = head.rest();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\n"), "no body: {answer}");
    let mut logged: Vec<_> = (0..6).map(|_| next(&log)).collect();
    logged.sort();
    assert_eq!(logged, ["- 505", "/ 503", "/gathered 503", "/sleep 503", "/stream 200", "/stream 200"]);
}

#[test]
fn the_access_log_has_the_status_that_the_client_has_seen() {
    all_ways(|mode| {
        let app = |req: Request| -> Response {
            match req.path() {
                "/panic" => panic!("as it was asked to"),
                "/mid-stream" => Body::stream(|out| {
                    out.write_all(b"begun")?;
                    out.flush()?;
                    panic!("as it was asked to")
                })
                .into_response(),
                "/not-yet" => Body::stream(|out| {
                    out.write_all(b"begun")?;
                    panic!("as it was asked to")
                })
                .into_response(),
                "/failing" => Body::try_chunks([Ok("begun"), Err("as it was asked to")]).into_response(),
                "/short" => Body::sized_stream(9, |out| out.write_all(b"begun")).into_response(),
                _ => Body::chunks([""; 3].into_iter().inspect(|_| panic!("as it was asked to")))
                    .into_response(),
            }
        };
        let (statuses, log) = channel();
        let server = Running::start(mode, move |s| s.access_log(Statuses(statuses)), app);
        for (path, status, ending) in [
            ("/panic", 500, "Internal Server Error\n"),
            ("/mid-stream", 200, "5\r\nbegun\r\n"),
            ("/not-yet", 500, "Internal Server Error\n"),
            ("/failing", 200, "5\r\nbegun\r\n"),
            ("/short", 200, "begun"),
            ("/chunk", 500, "Internal Server Error\n"),
        ] {
            let answer = server.answer(get(path));
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(ending),
                "{answer}"
            );
            assert_eq!(next(&log), format!("{path} {status}"));
        }
    });
}

/// Says how it was left.
struct Guard(Arc<Mutex<Sender<String>>>, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        let how = if self.1 { "whole" } else { "unwound" };
        let _ = self.0.lock().unwrap().send(how.into());
    }
}

#[test]
fn a_handler_is_cancelled_when_its_client_leaves_and_not_when_it_half_closes() {
    plain_and_tls(|| {
        for (how, pipelined) in [(Leaving::Reset, false), (Leaving::Close, false), (Leaving::Close, true)] {
            let (events, heard) = channel();
            let (entered, has_entered) = channel();
            let app = move |req: Request| {
                after_response(|| ());
                if req.path() == "/quick" {
                    return "quick";
                }
                let mut guard = Guard(Arc::clone(&events), false);
                entered.lock().unwrap().send(String::new()).unwrap();
                greenlet::sleep(if req.path() == "/short" {
                    Duration::from_millis(200)
                } else {
                    Duration::from_secs(3600)
                });
                guard.1 = true;
                "done"
            };
            let (statuses, log) = channel();
            let setup =
                move |s: greenserve::Server| s.cancel_on_disconnect(how).access_log(Statuses(statuses));
            let server = Running::start(Mode::Green, setup, app);
            let mut leaves = server.client();
            leaves.send(get("/quick"));
            leaves.until("quick");
            assert_eq!(next(&log), "/quick 200");
            leaves.send(get("/long") + if pipelined { GET } else { "" });
            next(&has_entered);
            if how == Leaving::Reset {
                // A half-closed client is still there.
                let mut half = server.client();
                half.send(get("/short"));
                half.finish();
                next(&has_entered);
                assert!(half.rest().ends_with("done"));
                assert_eq!((next(&heard), next(&log)), ("whole".into(), "/short 200".into()));
                SockRef::from(&leaves.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(leaves);
            assert_eq!((next(&heard), next(&log)), ("unwound".into(), "/long 499".into()), "{how:?}");
            let mut patient = server.client();
            patient.send(get("/short") + &get("/quick"));
            patient.until("quick");
            assert_eq!(next(&heard), "whole");
        }
    });
}

#[test]
fn a_part_of_a_handler_is_cancelled_and_the_rest_goes_on() {
    plain_and_tls(|| {
        let (events, heard) = channel();
        let (entered, has_entered) = channel();
        let app = move |mut req: Request| -> std::io::Result<String> {
            let client = req.client();
            let mut body = String::new();
            // Who watches is not in the way of who reads.
            client.unless_it_leaves(Leaving::Close, || req.body_mut().read_to_string(&mut body))??;
            assert!(!client.has_left(Leaving::Close));
            let result = client.unless_it_leaves(Leaving::Close, || {
                let _guard = Guard(Arc::clone(&events), false);
                entered.lock().unwrap().send(String::new()).unwrap();
                greenlet::sleep(Duration::from_secs(3600));
            });
            let left = (client.has_left(Leaving::Close), client.has_left(Leaving::Reset));
            events.lock().unwrap().send(format!("{result:?} {left:?}")).unwrap();
            result?;
            Ok(body)
        };
        let server = Running::start(Mode::Green, |s| s, app);
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
        client.send("llo");
        next(&has_entered);
        client.finish();
        assert_eq!(next(&heard), "unwound");
        assert_eq!(next(&heard), "Err(ClientLeft(())) (true, false)");
    });
}

#[test]
fn a_thread_can_ask_whether_its_client_has_left() {
    all_ways(|mode| {
        let (events, heard) = channel();
        let app = move |req: Request| {
            let client = req.client();
            let began = Instant::now();
            assert!(!client.has_left(Leaving::Close));
            events.lock().unwrap().send("there".into()).unwrap();
            while !client.has_left(Leaving::Close) {
                assert!(began.elapsed() < PATIENCE);
                match mode {
                    Mode::Green => greenlet::sleep(Duration::from_millis(2)),
                    Mode::Threads => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            events.lock().unwrap().send("gone".into()).unwrap();
            "nobody reads this"
        };
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send([GET, GET].concat());
        assert_eq!(next(&heard), "there");
        drop(client);
        assert_eq!(next(&heard), "gone");
    });
}

#[test]
fn rfc8297_early_hints_come_at_once_and_before_the_answer() {
    all_ways(|mode| {
        let (open, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let app = move |mut req: Request| -> std::io::Result<String> {
            req.early_hints([("link", "</a>; rel=preload"), ("x-b", "2")])?;
            let bad = req.early_hints([("link", "a\r\nx-evil: 1")]).unwrap_err();
            assert_eq!(bad.kind(), std::io::ErrorKind::InvalidInput);
            if req.path() == "/gated" {
                wait_for(mode, &gate);
            }
            let mut body = String::new();
            req.body_mut().read_to_string(&mut body)?;
            Ok(format!("[{body}]"))
        };
        const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nx-b: 2\r\n\r\n";
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send(get("/gated"));
        assert_eq!(client.until("\r\n\r\n"), HINTS);
        open.send(()).unwrap();
        assert!(client.until("[]").starts_with("HTTP/1.1 200 OK\r\n"));
        // Each stands before its own answer, though several have come.
        client.send([GET, GET].concat());
        for _ in 0..2 {
            let answer = client.until("[]");
            assert!(
                answer.starts_with(HINTS) && answer[HINTS.len()..].starts_with("HTTP/1.1 200 OK\r\n"),
                "{answer}"
            );
        }
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(client.until("\r\n\r\n"), HINTS);
        assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hi");
        assert!(client.until("[hi]").starts_with("HTTP/1.1 200 OK\r\n"));
        let old = server.answer("GET / HTTP/1.0\r\n\r\n");
        assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "an old client does not know 103: {old}");
    });
}

#[test]
fn early_hints_are_too_late_once_the_answer_has_begun() {
    all_ways(|mode| {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&kept);
        let app = move |req: Request| {
            let told = Arc::clone(&told);
            Body::stream(move |out| {
                let error = req.early_hints([("link", "</a>")]).unwrap_err();
                told.lock().unwrap().push(error.kind());
                out.write_all(b"body")
            })
        };
        let server = Running::start(mode, |s| s, app);
        assert!(
            server
                .answer("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .starts_with("HTTP/1.1 200")
        );
        assert_eq!(*kept.lock().unwrap(), [std::io::ErrorKind::InvalidInput]);
    });
}

#[test]
fn rfc9110_6_5_a_requests_trailers_are_there_when_its_body_was_read() {
    all_ways(|mode| {
        let app = |mut req: Request| -> std::io::Result<String> {
            assert_eq!(
                req.body().trailers().is_some(),
                req.header("content-length").is_none() && req.method() == "GET"
            );
            let mut body = String::new();
            req.body_mut().read_to_string(&mut body)?;
            let trailers = req.body().trailers().expect("the body is read");
            let sum = trailers.get("x-sum").map(|sum| sum.to_str().unwrap().to_owned());
            assert!(req.header("x-sum").is_none(), "they are no headers");
            Ok(format!("[{body} {sum:?} {}]", trailers.len()))
        };
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
        client.send(format!("{chunked}X-Sum: 6\r\nAuthorization: forged\r\n\r\n"));
        client.until("[abc Some(\"6\") 1]");
        client.send(format!("{chunked}\r\n"));
        client.until("[abc None 0]");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        client.until("[hi None 0]");
        client.send(GET);
        client.until("[ None 0]");
        assert!(server.answer(format!("{chunked}Content-Length: 3\r\n\r\n")).starts_with("HTTP/1.1 400"));
    });
}

#[test]
fn rfc9110_6_5_1_an_answers_trailers_go_to_who_asks_for_them() {
    all_ways(|mode| {
        let app = |_: Request| {
            let body = Body::stream(|out| {
                out.write_all(b"abc")?;
                assert!(out.trailer("content-length", "3").is_err());
                out.trailer("x-other", "not announced")?;
                out.trailer("X-Sum", "6")
            });
            ([("trailer", "X-Sum, x-absent")], body)
        };
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, trailers\r\nConnection: TE\r\n\r\n");
        let answer = client.until("0\r\nx-sum: 6\r\n\r\n");
        assert!(answer.contains("\r\ntrailer: X-Sum, x-absent\r\n\r\n3\r\nabc\r\n0\r\n"), "{answer}");
        client.send(GET);
        let answer = client.until("0\r\n\r\n");
        assert!(!answer.to_lowercase().contains("x-sum"), "{answer}");
        let old = server.answer("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n");
        assert!(old.ends_with("\r\n\r\nabc") && !old.contains("trailer"), "{old}");
    });
}

/// Counts what is asked of it, and says when it is dropped.
struct Counted(u32, Arc<AtomicUsize>, #[allow(dead_code, reason = "dropped")] Guard);

impl Iterator for Counted {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.checked_sub(1).map(|left| {
            self.0 = left;
            vec![b'x'; 100_000]
        })
    }
}

#[test]
fn pep3333_each_piece_is_sent_before_the_next_is_asked_for_and_the_iterator_is_dropped() {
    all_ways(|mode| {
        let (open, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let asked = Arc::new(AtomicUsize::new(0));
        let (events, heard) = channel();
        let count = Arc::clone(&asked);
        let app = move |req: Request| match req.path() {
            "/steps" => {
                let (gate, guard) = (Arc::clone(&gate), Guard(Arc::clone(&events), false));
                Body::chunks((0..3).map(move |n| {
                    let _held = &guard;
                    if n > 0 {
                        wait_for(mode, &gate);
                    }
                    format!("piece {n}")
                }))
            }
            _ => Body::chunks(Counted(1000, Arc::clone(&count), Guard(Arc::clone(&events), false))),
        };
        let server = Running::start(mode, |s| s.write_timeout(PATIENCE), app);
        let mut client = server.client();
        client.send(get("/steps"));
        for n in 0..3 {
            client.until(&format!("7\r\npiece {n}\r\n"));
            if n < 2 {
                open.send(()).unwrap();
            }
        }
        assert_eq!(client.until("0\r\n\r\n"), "0\r\n\r\n");
        next(&heard);
        client.send("HEAD /many HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until("\r\n\r\n");
        next(&heard);
        assert_eq!(asked.load(Ordering::SeqCst), 0, "an answer without body asks for nothing");
        let mut leaves = server.client();
        SockRef::from(&leaves.stream).set_recv_buffer_size(4096).unwrap();
        leaves.send(get("/many"));
        leaves.until("xxx");
        drop(leaves);
        next(&heard);
        assert!(asked.load(Ordering::SeqCst) < 900, "a client that left is not written to");
    });
}

#[test]
fn a_reader_is_read_as_the_client_takes_it_and_its_failure_is_no_regular_end() {
    /// Gives so many pieces, then fails or ends.
    struct Pieces(u32, bool, Arc<AtomicUsize>);
    impl Read for Pieces {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.2.fetch_add(1, Ordering::SeqCst);
            match self.0.checked_sub(1) {
                None if self.1 => Err(std::io::Error::other("as it was asked to")),
                None => Ok(0),
                Some(left) => {
                    self.0 = left;
                    buf.fill(b'x');
                    Ok(buf.len())
                }
            }
        }
    }
    all_ways(|mode| {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let app = move |req: Request| match req.path() {
            "/fails" => Body::reader(Pieces(2, true, Arc::clone(&count)), None),
            "/fails-at-once" => Body::reader(Pieces(0, true, Arc::clone(&count)), Some(5)),
            "/short" => Body::reader(Pieces(1, false, Arc::clone(&count)), Some(1 << 20)),
            _ => Body::reader(Pieces(10_000, false, Arc::clone(&count)), None),
        };
        let server = Running::start(mode, |s| s, app);
        let answer = server.answer(get("/fails"));
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"));
        assert!(server.answer(get("/fails-at-once")).starts_with("HTTP/1.1 500"));
        let short = server.answer(get("/short"));
        assert!(short.contains("content-length: 1048576\r\n") && short.len() < 1 << 20);
        reads.store(0, Ordering::SeqCst);
        let mut slow = server.client();
        SockRef::from(&slow.stream).set_recv_buffer_size(4096).unwrap();
        slow.send(get("/many"));
        slow.until("xxx");
        // The kernel's buffers hold a few megabytes at most, and the body has more than 600.
        assert!(reads.load(Ordering::SeqCst) < 1000);
        drop(slow);
    });
}
