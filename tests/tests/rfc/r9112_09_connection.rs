//! RFC 9112, section 9: which connections live on, and what is answered on them in which order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use greenserve::Server;
use greenserve_tests::{PATIENCE, eventually};

use crate::app::{GATE, Mode, Running, plain};
use crate::table::Answer::*;
use crate::table::{Client, Row, check, check_whole, line, row};

#[test]
fn section_9_3_persistence() {
    let new = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let old = |fields: &str| format!("GET /a HTTP/1.0\r\n{fields}\r\n");
    let mut rows = vec![
        row("9112 9.3: 1.1 lives on", new(""), &[App("GET /a 1.1 a []")]),
        row("9112 9.3: 1.0 does not", old(""), &[Last("GET /a 1.0 - []")]),
        row("9112 9.3: the application may end it", line("GET /close HTTP/1.1"), &[Last("bye")]),
        row("9112 9.3: also in 1.0", "GET /close HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[Last("bye")]),
    ];
    for (name, fields, alive) in [
        ("9112 9.6: close", "Connection: close\r\n", false),
        ("9110 7.6.1: in any case", "cONNECTION: cLOSE\r\n", false),
        ("9110 7.6.1: in a list", "Connection: x ,\tclose,\r\n", false),
        ("9110 7.6.1: over lines", "Connection: x\r\nY: z\r\nConnection: close\r\n", false),
        ("9112 9.3: close wins", "Connection: keep-alive, close\r\n", false),
        (
            "9112 9.3: close wins, the other way round",
            "Connection: close\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("9110 7.6.1: a word with close in it", "Connection: closed, enclose, close-not\r\n", true),
        ("9110 7.6.1: another field", "X-Connection: close\r\nProxy-Connection: close\r\n", true),
        ("9110 7.6.1: quotes", "Connection: \"close\"\r\n", true),
        ("9110 7.6.1: nothing", "Connection:\r\n", true),
        ("9112 9.3: keep-alive says nothing new", "Connection: keep-alive\r\n", true),
    ] {
        let answer = if alive { App("GET /a 1.1 a []") } else { Last("GET /a 1.1 a []") };
        rows.push(row(name, new(fields), &[answer]));
    }
    for (name, fields, alive) in [
        ("9112 9.3: keep-alive in 1.0", "Connection: keep-alive\r\n", true),
        ("9112 9.3: in any case and in a list", "Connection: x, Keep-Alive\r\n", true),
        ("9112 9.3: close wins in 1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("9112 9.3: the Keep-Alive field alone is nothing", "Keep-Alive: 9\r\n", false),
    ] {
        let answer = if alive { Kept("GET /a 1.0 - []") } else { Last("GET /a 1.0 - []") };
        rows.push(row(name, old(fields), &[answer]));
    }
    check(&rows, plain);
}

#[test]
fn section_9_3_2_pipelining() {
    let stream = [
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET",
        "HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n",
        "GET /5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let answers = [
        App("GET /1 1.1 a []"),
        App("POST /2 1.1 a [abc]"),
        App("unread"),
        Exactly("HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 16\r\n\r\n"),
        App("POST /4 1.1 a [de]"),
        Kept("GET /5 1.0 - []"),
        Exactly("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nstreamed\r\n0\r\n\r\n"),
        Exactly("HTTP/1.1 204 No Content\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n"),
    ];
    let closing = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let rows: Vec<Row> = vec![
        row("9112 9.3.2: all sorts, in order", stream.concat(), &answers),
        row(
            "9112 9.6: nothing behind close is executed",
            [stream[0], closing, stream[0]].concat(),
            &[answers[0], Last("GET /x 1.1 a []")],
        ),
    ];
    check(&rows, plain);
}

fn one_each(server: Server) -> Server {
    server.keep_alive(Duration::ZERO)
}

#[test]
fn section_9_6_tear_down() {
    check_whole(
        &[
            row(
                "9112 9.6: the server may end it after each answer",
                line("GET /1 HTTP/1.1"),
                &[Last("GET /1 1.1 a []")],
            ),
            row(
                "9112 9.6: what is not 1.1 hears it, too",
                "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                &[Last("GET /1 1.0 - []")],
            ),
        ],
        one_each,
    );
}

/// RFC 9112, 9.6: who has not been told yet may have sent more. A close at that moment would become a reset, which can
/// destroy the last answer on its way.
#[test]
fn what_is_sent_while_the_server_ends_the_connection_costs_nobody_the_answer() {
    for mode in [Mode::Green, Mode::Threads] {
        let server = Running::start(mode, one_each);
        GATE.begun.store(false, Ordering::SeqCst);
        GATE.open.store(false, Ordering::SeqCst);
        let mut client = Client::new(server.addr);
        client.send(&line("GET /gate HTTP/1.1"));
        eventually(PATIENCE, || GATE.begun.load(Ordering::SeqCst));
        // All that the server has read is the first request.
        client.send(&line("GET /2 HTTP/1.1").repeat(20));
        GATE.open.store(true, Ordering::SeqCst);
        let answer = client.answers().unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        assert!(answer.ends_with(b"passed"), "{mode:?}: {}", answer.escape_ascii());
    }
}
