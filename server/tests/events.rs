//! Server-sent events over real sockets.

mod support;

use std::io;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use greenserve::sse::{self, Event};
use greenserve::{Request, Stopping};
use support::{Mode, PATIENCE, Running, all_ways, split};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 41\r\n\r\n";

fn pause(mode: Mode) {
    match mode {
        Mode::Green => greenlet::sleep(Duration::from_millis(10)),
        Mode::Threads => std::thread::sleep(Duration::from_millis(10)),
    }
}

#[test]
fn events_are_sent_one_by_one_with_the_fields_that_keep_them_moving() {
    all_ways(|mode| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Arc::new(Mutex::new(gone));
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let gone = std::sync::Arc::clone(&gone);
                let last = sse::last_event_id(&req).unwrap_or("none").to_owned();
                sse::stream(&req, move |events| {
                    events.send(&Event::new(last).id("42"))?;
                    // Nobody else is served in this test.
                    gone.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                    events.comment("kept")
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        let head = client.until("\r\n\r\n");
        for line in [
            "content-type: text/event-stream\r\n",
            "cache-control: no-cache\r\n",
            "x-accel-buffering: no\r\n",
        ] {
            assert!(head.contains(line), "{head}");
        }
        client.until("id: 42\ndata: 41\n\n\r\n");
        go.send(()).unwrap();
        client.until(": kept\n\n\r\n0\r\n\r\n");
    });
}

#[test]
fn the_head_comes_before_the_first_event() {
    let soon = Duration::from_millis(100);
    let server = Running::start(
        Mode::Green,
        move |s| s.graceful_timeout(soon),
        |req: Request| {
            sse::stream(&req, |_| {
                greenlet::sleep(Duration::from_secs(3600));
                Ok(())
            })
        },
    );
    let mut client = server.client();
    client.send(GET);
    assert!(split(&client.until("\r\n\r\n")).0.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn a_stop_ends_the_stream_as_it_should_be() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s.graceful_timeout(PATIENCE),
            move |req: Request| {
                sse::stream(&req, move |events| {
                    assert!(!events.is_stopping());
                    loop {
                        events.send(&Event::new("a"))?;
                        pause(mode);
                    }
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        client.until("data: a\n\n");
        server.handle.stop();
        let rest = client.rest();
        assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
        server.stop();
    });
}

#[test]
fn a_client_that_leaves_ends_it_with_an_error() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let told = told.lock().unwrap().clone();
                sse::stream(&req, move |events| {
                    let error = loop {
                        if let Err(error) = events.comment("") {
                            break error;
                        }
                        pause(mode);
                    };
                    told.send((error.kind(), Stopping::is(&error))).unwrap();
                    Err(error)
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        client.until("\r\n\r\n");
        drop(client);
        let (kind, stopping) = hears.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{kind:?}");
        assert!(!stopping);
    });
}
