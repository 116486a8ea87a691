//! RFC 9110, section 15.5, and RFC 6585: the statuses of what is too large. Each limit is reached, then passed by one byte.

use greenserve::Server;
use greenserve::http::Limits;

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, line, row};

const LINE: &str = "the request line is too long";
const FIELD: &str = "a header field or the whole head is too large";
const FIELDS: &str = "there are too many header fields";
const BODY: &str = "the request body is too large";
const BODY_CAME: &str = "the request body is larger than allowed here";

fn tight(server: Server) -> Server {
    server.limits(Limits {
        request_line: 40,
        request_fields: 3,
        request_field_size: 40,
        request_body: 4,
        ..Limits::default()
    })
}

#[test]
fn tight_limits() {
    let with = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let target = "x".repeat(26);
    let answer: &'static str = Box::leak(format!("GET /{target} 1.1 a []").into_boxed_str());
    let rows = [
        row("9110 15.5.15: a line of 40", line(format!("GET /{target} HTTP/1.1")), &[App(answer)]),
        row("9110 15.5.15: a line of 41", line(format!("GET /{target}x HTTP/1.1")), &[No(414, LINE)]),
        row("9110 15.5.15: a line without end", "G".repeat(500), &[No(414, LINE)]),
        row(
            "9110 15.5.15: in answer to HEAD",
            line(format!("HEAD /{target} HTTP/1.1")),
            &[NoToHead(414, LINE)],
        ),
        row(
            "6585 5: a field of 40 with its end",
            with(&format!("X: {}\r\n", "y".repeat(35))),
            &[App("GET /a 1.1 a []")],
        ),
        row("6585 5: a field of 41", with(&format!("X: {}\r\n", "y".repeat(36))), &[No(431, FIELD)]),
        row("6585 5: white space counts", with(&format!("X: {}\r\n", " ".repeat(36))), &[No(431, FIELD)]),
        row(
            "6585 5: a field without end",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(500)),
            &[No(431, FIELD)],
        ),
        row(
            "6585 5: a name without end",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "y".repeat(500)),
            &[No(431, FIELD)],
        ),
        row("6585 5: three fields", with("B: 2\r\nC: 3\r\n"), &[App("GET /a 1.1 a []")]),
        row("6585 5: four fields", with("B: 2\r\nC: 3\r\nD: 4\r\n"), &[No(431, FIELDS)]),
        row("6585 5: fields without end", with(&"B: 2\r\n".repeat(100)), &[No(431, FIELDS)]),
        row(
            "6585 5: in answer to HEAD",
            format!("HEAD / HTTP/1.1\r\nHost: a\r\n{}\r\n", "B: 2\r\n".repeat(9)),
            &[NoToHead(431, FIELDS)],
        ),
        row(
            "9110 15.5.14: a body of 4",
            post("Content-Length: 4\r\n", "abcd"),
            &[App("POST / 1.1 a [abcd]")],
        ),
        row("9110 15.5.14: a body of 5", post("Content-Length: 5\r\n", "abcde"), &[No(413, BODY)]),
        row(
            "9110 15.5.14: the largest length there is",
            post("Content-Length: 18446744073709551615\r\n", ""),
            &[No(413, BODY)],
        ),
        row(
            "9110 15.5.14: a body of 5 that is waiting for 100",
            post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""),
            &[No(413, BODY)],
        ),
        row(
            "9110 15.5.14: chunks of 4",
            post("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
            &[App("POST / 1.1 a [abcd]")],
        ),
        row(
            "9110 15.5.14: chunks of 5",
            post("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
            &[BadBody(413, BODY_CAME)],
        ),
    ];
    check(&rows, tight);
}

#[test]
fn default_limits_are_gunicorns() {
    let lined = |length: usize| line(format!("GET /status/{} HTTP/1.1", "9".repeat(length - 21)));
    let fielded =
        |count: usize| format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "B: 2\r\n".repeat(count - 1));
    let sized = |size: usize| format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(size - 5));
    let bad = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 4\r\n\r\ntext";
    let rows = [
        row("9112 3: a line of 4094", lined(4094), &[Exactly(bad)]),
        row("9112 3: a line of 4095", lined(4095), &[No(414, LINE)]),
        row("6585 5: 100 fields", fielded(100), &[App("GET /a 1.1 a []")]),
        row("6585 5: 101 fields", fielded(101), &[No(431, FIELDS)]),
        row("6585 5: a field of 8190", sized(8190), &[App("GET /a 1.1 a []")]),
        row("6585 5: a field of 8191", sized(8191), &[No(431, FIELD)]),
    ];
    check(&rows, plain);
}
