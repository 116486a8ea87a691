//! RFC 9110 and RFC 9112 on what the server sends: which answers have a body, how it is framed, and that no application can
//! say otherwise.

use greenserve::HeaderValue;

use crate::app::{Mode, Running, plain};
use crate::table::Answer::*;
use crate::table::{Answer, Client, check_whole, line, row};

const TYPE: &str = "content-type: text/plain; charset=utf-8\r\n";

/// An answer of this status, these fields and this body, after which the connection lives on.
fn lives(status: &str, fields: &str, body: &str) -> Answer {
    Exactly(text(status, fields, body))
}

/// The same, and the connection ends.
fn last(status: &str, fields: &str, body: &str) -> Answer {
    ExactlyLast(text(status, fields, body))
}

fn text(status: &str, fields: &str, body: &str) -> &'static str {
    Box::leak(format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}").into_boxed_str())
}

fn failed() -> Answer {
    let fields = format!("{TYPE}content-length: 22\r\nconnection: close\r\n");
    last("500 Internal Server Error", &fields, "Internal Server Error\n")
}

#[test]
fn which_answers_have_a_body() {
    let typed = |fields: &str| format!("{TYPE}{fields}");
    let rows = [
        row(
            "9110 9.3.2: HEAD",
            line("HEAD /a HTTP/1.1"),
            &[lives("200 OK", &typed("content-length: 16\r\n"), "")],
        ),
        row("9110 9.3.2: HEAD of a stream", line("HEAD /stream HTTP/1.1"), &[lives("200 OK", "", "")]),
        row(
            "9110 9.3.2: HEAD of 404",
            line("HEAD /status/404 HTTP/1.1"),
            &[lives("404 Not Found", &typed("content-length: 4\r\n"), "")],
        ),
        row("9110 15.3.5: 204", line("GET /status/204 HTTP/1.1"), &[lives("204 No Content", TYPE, "")]),
        row(
            "9110 15.3.5: 204 to HEAD",
            line("HEAD /status/204 HTTP/1.1"),
            &[lives("204 No Content", TYPE, "")],
        ),
        row("9110 15.4.5: 304", line("GET /status/304 HTTP/1.1"), &[lives("304 Not Modified", TYPE, "")]),
        row(
            "9110 15.3.6: 205",
            line("GET /status/205 HTTP/1.1"),
            &[last("205 Reset Content", &typed("connection: close\r\n"), "")],
        ),
        row(
            "9110 15.5.5: 404",
            line("GET /status/404 HTTP/1.1"),
            &[lives("404 Not Found", &typed("content-length: 4\r\n"), "text")],
        ),
        row(
            "9110 15: a status without a name",
            line("GET /status/299 HTTP/1.1"),
            &[lives("299 ", &typed("content-length: 4\r\n"), "text")],
        ),
        row(
            "9110 9.3.6: CONNECT that is refused",
            "CONNECT b:1 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            &[No(400, "Content-Length is not one number")],
        ),
    ];
    check_whole(&rows, plain);
}

#[test]
fn how_a_body_is_framed() {
    let rows = [
        row(
            "9112 6.1: unknown length",
            line("GET /stream HTTP/1.1"),
            &[lives("200 OK", "transfer-encoding: chunked\r\n", "8\r\nstreamed\r\n0\r\n\r\n")],
        ),
        row(
            "9112 6.3: unknown length in 1.0",
            line("GET /stream HTTP/1.0"),
            &[last("200 OK", "connection: close\r\n", "streamed")],
        ),
        row(
            "9112 6.3: also if it asks to live on",
            "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            &[last("200 OK", "connection: close\r\n", "streamed")],
        ),
        row(
            "9112 8: shorter than stated",
            line("GET /short HTTP/1.1"),
            &[last("200 OK", "content-length: 10\r\n", "short")],
        ),
        row(
            "9112 6.3: longer than stated",
            line("GET /long HTTP/1.1"),
            &[last("200 OK", "content-length: 4\r\n", "long")],
        ),
        row(
            "9112 8: a stream that breaks off has no last chunk",
            line("GET /panic-later HTTP/1.1"),
            &[last("200 OK", "transfer-encoding: chunked\r\n", "5\r\nfirst\r\n")],
        ),
        row("9110 15.6.1: a panic", line("GET /panic HTTP/1.1"), &[failed()]),
        row("9110 15.2: an interim status is no answer", line("GET /status/103 HTTP/1.1"), &[failed()]),
        row(
            "9112 6: fields that are the server's alone",
            line("GET /framing-of-its-own HTTP/1.1"),
            &[lives("200 OK", &format!("{TYPE}content-length: 3\r\n"), "abc")],
        ),
    ];
    check_whole(&rows, plain);
}

#[test]
fn no_line_break_gets_into_a_head() {
    let fields = format!("{TYPE}content-length: 22\r\n");
    let answer = lives("500 Internal Server Error", &fields, "Internal Server Error\n");
    check_whole(
        &[
            row("9110 5.5: CR and LF in a value", line("GET /injected HTTP/1.1"), &[answer]),
            row("9110 5.1: CR and LF in a name", line("GET /injected-name HTTP/1.1"), &[answer]),
        ],
        plain,
    );
}

/// `Server` and `Date` are the server's unless the application has its own; each comes once.
#[test]
fn section_10_2_4_server_and_6_6_1_date() {
    for mode in [Mode::Green, Mode::Threads] {
        let named = Running::start(mode, |server| server.server_name(HeaderValue::from_static("ours")));
        let nameless = Running::start(mode, plain);
        for (server, path, expected) in
            [(&named, "/a", Some("ours")), (&named, "/of-its-own", Some("mine")), (&nameless, "/a", None)]
        {
            let mut client = Client::new(server.addr);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
            let answer = client.everything().expect("an answer");
            let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
            let all = |name: &str| -> Vec<&str> {
                head.lines().filter_map(|line| line.strip_prefix(name)).collect()
            };
            assert_eq!(all("server: "), Vec::from_iter(expected), "{mode:?}");
            assert_eq!(all("date: ").len(), 1, "{mode:?}");
            assert!(all("date: ")[0].ends_with(" GMT"), "{mode:?}: {head}");
        }
    }
}
