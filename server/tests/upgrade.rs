//! Connections that leave HTTP: upgrades and tunnels, over real sockets.

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use greenserve::{AccessLog, Body, Exchange, IntoResponse, Request, Response, Stopping, Upgraded};
use support::{Mode, PATIENCE, Running, all_ways, both, hello, split};

const ASK: &str = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// Sends back what comes, and the end after it.
fn echo(io: Upgraded) -> io::Result<()> {
    io::copy(&mut &io, &mut &io).map(drop)
}

fn app(req: Request) -> Response {
    match req.path() {
        "/echo" => {
            let mut response = Response::upgrade("Echo", echo);
            response.headers_mut().insert("x-a", "1".parse().unwrap());
            response
        }
        "/tunnel" | "" => Response::tunnel(echo),
        "/asked" => req.upgrade_protocols().join(" ").into_response(),
        _ => "hello".into_response(),
    }
}

/// The head of an answer without its date.
fn head(client: &mut support::Client) -> String {
    let head = client.until("\r\n\r\n");
    let lines = head.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

#[test]
fn the_101_says_what_it_must_and_what_came_behind_the_head_is_read_first() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send(format!("{ASK}early"));
        assert_eq!(
            head(&mut client),
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: Echo\r\nx-a: 1\r\nconnection: upgrade\r\n\r\n"
        );
        client.until("early");
        client.send(" and late");
        client.until(" and late");
        client.send(ASK);
        client.until(ASK);
        client.finish();
        assert_eq!(client.rest(), "");
    });
}

#[test]
fn answers_to_earlier_requests_come_before_the_101() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send(format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n{ASK}x"));
        assert!(head(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
        client.until("hello");
        assert!(head(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
        client.until("hello");
        assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
        client.until("x");
    });
}

#[test]
fn who_has_not_asked_for_the_protocol_is_told_of_it_and_stays() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        for asked in
            ["", "Upgrade: echo\r\n", "Connection: upgrade\r\n", "Connection: upgrade\r\nUpgrade: other\r\n"]
        {
            let mut client = server.client();
            for _ in 0..2 {
                client.send(format!("GET /echo HTTP/1.1\r\nHost: a\r\n{asked}\r\n"));
                let head = head(&mut client);
                assert!(head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{asked}: {head}");
                assert!(head.contains("\r\nupgrade: Echo\r\n"), "{head}");
                assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
                client.until("Upgrade Required\n");
            }
        }
        let old = server.answer("GET /echo HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        assert!(old.starts_with("HTTP/1.1 426 "), "{old}");
    });
}

#[test]
fn an_upgrade_that_nobody_wants_is_ignored() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        for (asked, protocols) in [
            ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "h2c"),
            ("Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\nUpgrade: c\r\n", "a/1 b c"),
        ] {
            client.send(format!("GET /asked HTTP/1.1\r\nHost: a\r\n{asked}\r\n"));
            assert!(head(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
            client.until(protocols);
        }
    });
}

#[test]
fn a_body_is_read_away_before_the_change_of_protocol_or_the_change_is_refused() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        let ask = ASK.trim_end_matches("\r\n").replace("GET", "POST");
        let mut client = server.client();
        client.send(format!("{ask}\r\nContent-Length: 4\r\n\r\nbodyafter"));
        assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
        client.until("after");
        let mut client = server.client();
        client.send(format!("{ask}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"));
        client.send("0\r\n\r\nafter");
        assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
        client.until("after");
        // Nobody has told this one to send its body.
        let answer = server.answer(format!("{ask}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
        let (head, _) = split(&answer);
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("\r\nconnection: close"), "{head}");
        let answer = server.answer(format!("{ask}\r\nContent-Length: 1000000000\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    });
}

#[test]
fn connect_becomes_a_tunnel_by_200_and_nothing_else_does() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, app);
        let mut client = server.client();
        client.send("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nearly");
        assert_eq!(head(&mut client), "HTTP/1.1 200 OK\r\n\r\n");
        client.until("early");
        client.send("late");
        client.finish();
        assert_eq!(client.rest(), "late");
        let answer = server.answer("GET /tunnel HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    });
}

#[test]
fn an_interim_status_without_an_upgrade_is_the_applications_fault() {
    let server = Running::start(Mode::Green, |s| s, |_| greenserve::StatusCode::SWITCHING_PROTOCOLS);
    assert!(server.answer(ASK).starts_with("HTTP/1.1 500 "));
}

#[test]
fn each_side_can_end_its_half() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |_| {
                Response::upgrade("echo", |io| {
                    (&io).write_all(b"all there is")?;
                    io.shutdown(Shutdown::Write)?;
                    let mut rest = String::new();
                    (&io).read_to_string(&mut rest)?;
                    assert_eq!(rest, "heard");
                    Ok(())
                })
            },
        );
        let mut client = server.client();
        client.send(ASK);
        head(&mut client);
        assert_eq!(client.rest(), "all there is");
        client.send("heard");
        client.finish();
        server.stop();
    });
}

#[test]
fn one_green_thread_reads_while_others_write() {
    let server = Running::start(
        Mode::Green,
        |s| s,
        |_| {
            Response::upgrade("echo", |io| {
                let (writer, second) = (io.clone(), io.clone());
                let writing = greenlet::spawn(move || {
                    for n in 0..1000 {
                        writeln!(&writer, "{n}")?;
                        greenlet::yield_now();
                    }
                    io::Result::Ok(())
                });
                let reading = greenlet::spawn(move || (&second).read(&mut [0; 8]));
                greenlet::yield_now();
                let busy = (&io).read(&mut [0; 8]).expect_err("there is a reader already");
                assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
                writing.join().unwrap()?;
                assert_eq!(reading.join().unwrap()?, 2);
                writeln!(&io, "end")
            })
        },
    );
    let mut client = server.client();
    client.send(ASK);
    head(&mut client);
    client.until("\n999\n");
    client.send("go");
    assert_eq!(client.rest(), "end\n");
}

#[test]
fn timeouts_are_as_they_were_set_and_not_those_of_http() {
    all_ways(|mode| {
        let short = Duration::from_millis(30);
        let server = Running::start(
            mode,
            move |s| s.keep_alive(short).header_timeout(short).body_timeout(short).request_timeout(short * 3),
            |_| {
                Response::upgrade("echo", |io| {
                    let error = io.set_read_timeout(Duration::ZERO).expect_err("no time at all");
                    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                    io.set_read_timeout(Duration::from_millis(200))?;
                    let error = (&io).read(&mut [0; 8]).expect_err("nothing comes");
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    io.set_read_timeout(None)?;
                    (&io).write_all(b"still here\n")?;
                    echo(io)
                })
            },
        );
        let mut client = server.client();
        client.send(ASK);
        client.until("still here\n");
        client.send("yes");
        client.until("yes");
    });
}

#[test]
fn a_client_that_takes_nothing_runs_into_the_write_timeout() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s,
            move |_| {
                let told = told.lock().unwrap().clone();
                Response::upgrade("echo", move |io| {
                    io.set_write_timeout(Duration::from_millis(100))?;
                    let error = loop {
                        if let Err(error) = (&io).write_all(&[0; 65536]) {
                            break error;
                        }
                    };
                    told.send(error.kind()).unwrap();
                    Err(error)
                })
            },
        );
        let mut client = server.client();
        client.send(ASK);
        let kind = hears.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind:?}");
        client.rest_lossy();
    });
}

#[test]
fn a_read_hears_once_that_the_server_stops_and_can_say_goodbye() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s.graceful_timeout(PATIENCE),
            |_| {
                Response::upgrade("echo", |io| {
                    let mut lines = BufReader::new(&io).lines();
                    assert!(!io.is_stopping());
                    (&io).write_all(b"ready\n")?;
                    let error = lines.next().unwrap().expect_err("the server stops");
                    assert!(Stopping::is(&error) && io.is_stopping(), "{error}");
                    (&io).write_all(b"goodbye?\n")?;
                    assert_eq!(lines.next().unwrap()?, "goodbye");
                    (&io).write_all(b"gone")
                })
            },
        );
        let mut client = server.client();
        client.send(ASK);
        client.until("ready\n");
        server.handle.stop();
        client.until("goodbye?\n");
        client.send("goodbye\n");
        assert_eq!(client.rest(), "gone");
        server.stop();
    });
}

#[test]
fn who_does_not_hear_it_is_cut_off_at_the_graceful_deadline() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s.graceful_timeout(Duration::from_millis(200)),
            |_| {
                Response::upgrade("echo", |io| {
                    (&io).write_all(b"ready\n")?;
                    loop {
                        if let Ok(0) = (&io).read(&mut [0; 8]) {
                            return Ok(());
                        }
                    }
                })
            },
        );
        let mut client = server.client();
        client.send(ASK);
        client.until("ready\n");
        server.stop();
        assert_eq!(client.rest_lossy(), "");
    });
}

#[test]
fn a_panic_ends_its_connection_only() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| match req.path() {
                "/panic" => Response::upgrade("echo", |_| panic!("as it was asked to")),
                _ => app(req),
            },
        );
        let mut client = server.client();
        client.send(ASK.replace("/echo", "/panic"));
        head(&mut client);
        assert_eq!(client.rest(), "");
        let mut client = server.client();
        client.send(format!("{ASK}alive"));
        client.until("alive");
    });
}

#[test]
fn a_handle_that_was_kept_finds_the_connection_closed() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<Upgraded>> = const { std::cell::RefCell::new(None) };
    }
    let server = Running::start(
        Mode::Green,
        |s| s,
        |req: Request| match req.path() {
            "/keep" => Response::upgrade("echo", |io| {
                KEPT.set(Some(io));
                Ok(())
            }),
            _ => {
                let kept = KEPT.take().expect("it was kept");
                let results = [(&kept).write(b"x"), (&kept).read(&mut [0])];
                format!("{:?}", results.map(|result| result.map_err(|error| error.kind()))).into_response()
            }
        },
    );
    let mut client = server.client();
    client.send(ASK.replace("/echo", "/keep"));
    head(&mut client);
    assert_eq!(client.rest(), "");
    let answer = server.answer("GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("[Err(NotConnected), Err(NotConnected)]"), "{answer}");
}

#[test]
fn an_upgraded_connection_keeps_its_place_in_the_pool() {
    both(|mode| {
        let server = Running::start(mode, |s| s.worker_connections(1), app);
        let mut first = server.client();
        first.send(format!("{ASK}x"));
        first.until("\r\n\r\nx");
        let mut second = server.client();
        second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        second.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let waits = second.stream.read(&mut [0; 8]).expect_err("there is no place for it");
        assert!(matches!(waits.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        second.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(first);
        second.until("hello");
    });
}

#[test]
fn locals_of_the_handler_are_there_and_gone_for_the_next_connection() {
    ctxlocal::ctxlocal! {
        static NAME: std::cell::RefCell<String> = std::cell::RefCell::new(String::new());
    }
    let server = Running::start(
        Mode::Green,
        |s| s,
        |req: Request| {
            NAME.with(|name| name.borrow_mut().push_str(req.path()));
            Response::upgrade("echo", |io| {
                let name = NAME.with(|name| name.borrow().clone());
                (&io).write_all(name.as_bytes())
            })
        },
    );
    for path in ["/a", "/b"] {
        let mut client = server.client();
        client.send(ASK.replace("/echo", path));
        head(&mut client);
        assert_eq!(client.rest(), path);
    }
}

#[test]
fn the_access_log_gets_one_line_at_the_end_with_the_bytes_written() {
    struct Log(Mutex<mpsc::Sender<(u16, u64)>>);
    impl AccessLog for Log {
        fn log(&self, exchange: &Exchange<'_>) {
            let line = (exchange.status.as_u16(), exchange.body_sent);
            self.0.lock().unwrap().send(line).unwrap();
        }
    }
    all_ways(|mode| {
        let (lines, logged) = mpsc::channel();
        let log = Arc::new(Mutex::new(Some(Log(Mutex::new(lines)))));
        let server = Running::start(mode, move |s| s.access_log(log.lock().unwrap().take().unwrap()), app);
        let mut client = server.client();
        client.send(format!("{ASK}12345"));
        client.until("12345");
        assert!(logged.try_recv().is_err(), "it has not ended");
        client.finish();
        assert_eq!(client.rest(), "");
        assert_eq!(logged.recv_timeout(PATIENCE).unwrap(), (101, 5));
        assert!(logged.try_recv().is_err());
    });
}

#[test]
fn other_bodies_and_hand_made_requests_are_as_before() {
    assert!(Request::new(Body::empty()).upgrade_protocols().is_empty());
    assert!(!Request::new(Body::empty()).is_server_stopping());
    let response = Response::upgrade("a\nb", |_| Ok(()));
    assert_eq!(response.status(), 500);
    assert_eq!(Response::upgrade("a", |_| Ok(())).into_body().into_bytes().unwrap().len(), 0);
    let server = Running::start(Mode::Green, |s| s, hello);
    assert!(server.answer("GET / HTTP/1.0\r\n\r\n").ends_with("hello"));
}
