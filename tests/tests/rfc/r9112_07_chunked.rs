//! RFC 9112, section 7: the chunked coding, its extensions and its trailers.

use greenserve::Server;
use greenserve::http::Limits;

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, chunked, row};

const SIZE: &str = "malformed request body: a chunk size is not hexadecimal digits alone";
const TOO_LARGE: &str = "malformed request body: a chunk size is too large";
const LINE: &str = "malformed request body: a line of the chunked coding does not end in CRLF";
const DATA: &str = "malformed request body: a chunk's data is not followed by CRLF";
const EXTENSION: &str = "malformed request body: a chunk extension holds a control character";
const EXTENSIONS: &str = "malformed request body: the chunk extensions are too large";
const TRAILER: &str = "malformed request body: a trailer is not a valid field";
const TRAILERS: &str = "malformed request body: the trailers are too large";
const FORBIDDEN: &str = "malformed request body: a trailer holds a field that is only valid in the head";

#[test]
fn section_7_1_chunks() {
    let mut rows = Vec::new();
    for (name, body, answer) in [
        ("9112 7.1: one", "3\r\nabc\r\n0\r\n\r\n", "POST / 1.1 a [abc]"),
        ("9112 7.1: none", "0\r\n\r\n", "POST / 1.1 a []"),
        ("9112 7.1: several", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "POST / 1.1 a [abc]"),
        (
            "9112 7.1: sizes in either case",
            "a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n",
            "POST / 1.1 a [0123456789abcdefghij]",
        ),
        ("9112 7.1: leading zeros", "003\r\nabc\r\n000\r\n\r\n", "POST / 1.1 a [abc]"),
        (
            "9112 7.1: sixteen digits",
            "0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n",
            "POST / 1.1 a [abc]",
        ),
        ("9112 7.1: line ends as data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "POST / 1.1 a [\\r\\n\\r\\n]"),
        ("9112 7.1: an end as data", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "POST / 1.1 a [0\\r\\n\\r\\n]"),
    ] {
        rows.push(row(name, chunked(body), &[App(answer)]));
    }
    for (name, body, reason) in [
        ("9112 7.1: a plus", "+3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a minus", "-3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: 0x", "0x3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: an h", "3h\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a letter too far", "g\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: an underscore", "0_3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a point", "3.0\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: quotes", "\"3\"\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: digits of another script", "\u{0663}\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a space before", " 3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a space behind", "3 \r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a tab behind", "3\t\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: two sizes", "3 3\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: no size", "\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: an extension alone", ";a\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a space and an extension alone", " ;a\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: NUL behind", "3\0\r\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: a space before the last size", "3\r\nabc\r\n 0\r\n\r\n", SIZE),
        ("9112 7.1: an empty line between", "3\r\nabc\r\n\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: seventeen digits", "00000000000000003\r\nabc\r\n0\r\n\r\n", TOO_LARGE),
        ("9112 7.1: beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n", TOO_LARGE),
        ("9112 7.1: LF behind the size", "3\nabc\r\n0\r\n\r\n", SIZE),
        ("9112 7.1: CR behind the size", "3\rabc\r\n0\r\n\r\n", LINE),
        ("9112 7.1: CR CR LF behind the size", "3\r\r\nabc\r\n0\r\n\r\n", LINE),
        ("9112 7.1: LF behind the last size", "3\r\nabc\r\n0\n\r\n", SIZE),
        ("9112 7.1: LF behind the data", "3\r\nabc\n0\r\n\r\n", DATA),
        ("9112 7.1: CR behind the data", "3\r\nabc\r0\r\n\r\n", DATA),
        ("9112 7.1: nothing behind the data", "3\r\nabc0\r\n\r\n", DATA),
        ("9112 7.1: too much data", "3\r\nabcd\r\n0\r\n\r\n", DATA),
        ("9112 7.1: two bytes that are no line end", "3\r\nabcXX0\r\n\r\n", DATA),
        ("9112 7.1: too little data", "4\r\nabc\r\n0\r\n\r\n", DATA),
        ("9112 7.1: LF as the end", "0\r\n\n", LINE),
        ("9112 7.1: CR and something else as the end", "0\r\n\rX", LINE),
    ] {
        rows.push(row(name, chunked(body), &[BadBody(400, reason)]));
    }
    let smuggled = "1b\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\r\n0\r\n\r\n";
    rows.push(row(
        "9112 7.1: an unread body is no request",
        [b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", smuggled.as_bytes()]
            .concat(),
        &[App("unread")],
    ));
    rows.push(row(
        "9112 7.1: nor is what is left of one",
        "POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n1GET \r\n0\r\n\r\n",
        &[App("one 1")],
    ));
    rows.push(row(
        "9112 7.1: an application that takes the error lightly gets no further request",
        "POST /caught HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n0\r\n\r\n",
        &[Last("caught Some(Malformed(\"a chunk size is not hexadecimal digits alone\"))")],
    ));
    check(&rows, plain);
}

#[test]
fn section_7_1_1_extensions() {
    let mut rows = Vec::new();
    for (name, body) in [
        ("9112 7.1.1: a name", "3;a\r\nabc\r\n0\r\n\r\n"),
        ("9112 7.1.1: a name and a value", "3;a=b\r\nabc\r\n0;c=d\r\n\r\n"),
        ("9112 7.1.1: several, one quoted", "3;a;b=c;d=\"e f\"\r\nabc\r\n0\r\n\r\n"),
        ("9112 7.1.1: white space around", "3 \t; a = b\r\nabc\r\n0 ;c\r\n\r\n"),
        ("9112 7.1.1: an empty one", "3;\r\nabc\r\n0;\r\n\r\n"),
        ("9110 5.6.4: obs-text", "3;a=\"\u{e9}\"\r\nabc\r\n0\r\n\r\n"),
        ("9112 7.1.1: something like a size", "3;5\r\nabc\r\n0\r\n\r\n"),
    ] {
        rows.push(row(name, chunked(body), &[App("POST / 1.1 a [abc]")]));
    }
    for (name, body, reason) in [
        ("9112 7.1.1: LF", "3;a\nabc\r\n0\r\n\r\n", LINE),
        ("9112 7.1.1: LF in the last", "3\r\nabc\r\n0;a\n\r\n", LINE),
        ("9112 7.1.1: CR", "3;a\rb\r\nabc\r\n0\r\n\r\n", LINE),
        ("9112 7.1.1: CR CR LF", "3;a\r\r\nabc\r\n0\r\n\r\n", LINE),
        ("9112 7.1.1: NUL", "3;a\0\r\nabc\r\n0\r\n\r\n", EXTENSION),
        ("9112 7.1.1: VT", "3;a\x0b\r\nabc\r\n0\r\n\r\n", EXTENSION),
        ("9112 7.1.1: DEL", "3;a\x7f\r\nabc\r\n0\r\n\r\n", EXTENSION),
        ("9112 7.1.1: LF in quotes", "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n", LINE),
    ] {
        rows.push(row(name, chunked(body), &[BadBody(400, reason)]));
    }
    check(&rows, plain);
}

#[test]
fn section_7_1_2_trailers() {
    let mut rows = Vec::new();
    for (name, body) in [
        ("9112 7.1.2: one", "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ("9112 7.1.2: several", "3\r\nabc\r\n0\r\nA: 1\r\nb:\r\nA:\t 2 \r\n\r\n"),
        ("9112 7.1.2: obs-text", "3\r\nabc\r\n0\r\nA: \u{e9}\r\n\r\n"),
        ("9110 6.5.1: a name like a forbidden one", "3\r\nabc\r\n0\r\nX-Content-Length: 9\r\n\r\n"),
    ] {
        rows.push(row(name, chunked(body), &[App("POST / 1.1 a [abc]")]));
    }
    for (name, body, reason) in [
        ("9112 7.1.2: no colon", "0\r\nX\r\n\r\n", TRAILER),
        ("9112 7.1.2: no name", "0\r\n: x\r\n\r\n", TRAILER),
        ("9112 5.1: space before the colon", "0\r\nX : y\r\n\r\n", TRAILER),
        ("9112 5.2: folded", "0\r\nX: y\r\n z\r\n\r\n", TRAILER),
        ("9110 5.1: a name that is no token", "0\r\nX(: y\r\n\r\n", TRAILER),
        ("9110 5.5: NUL", "0\r\nX: \0\r\n\r\n", TRAILER),
        ("9110 5.5: DEL", "0\r\nX: \x7f\r\n\r\n", TRAILER),
        ("9112 2.2: LF", "0\r\nX: y\n\r\n", LINE),
        ("9112 2.2: LF as the end", "0\r\nX: y\r\n\n", LINE),
        ("9112 2.2: CR", "0\r\nX: y\rz\r\n\r\n", LINE),
        ("9110 6.5.1: a length", "0\r\nContent-Length: 3\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: a coding, in any case", "0\r\ntRANSFER-eNCODING: chunked\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: Host", "0\r\nHost: b\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: Connection", "0\r\nA: b\r\nConnection: close\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: Expect", "0\r\nExpect: 100-continue\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: Upgrade", "0\r\nUpgrade: h2c\r\n\r\n", FORBIDDEN),
        ("9110 6.5.1: a request", "0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", TRAILER),
    ] {
        rows.push(row(name, chunked(body), &[BadBody(400, reason)]));
    }
    check(&rows, plain);
}

/// Few bytes for extensions and trailers.
fn tight(server: Server) -> Server {
    server.limits(Limits { chunk_extensions: 8, trailers: 12, ..Limits::default() })
}

#[test]
fn extensions_and_trailers_have_limits() {
    let ten = "1;aaaaaaa\r\nx\r\n".repeat(10);
    let many = "1;aaaaaaa\r\nx\r\n".repeat(7);
    let data = format!("20;aaaaaaa\r\n{}\r\n", "x".repeat(32));
    let answer: &'static str = Box::leak(format!("POST / 1.1 a [{}]", "x".repeat(32 + 7)).into_boxed_str());
    let rows = [
        row(
            "9112 7.1.1: as long as it may be",
            chunked("3;aaaaaaa\r\nabc\r\n0\r\n\r\n"),
            &[App("POST / 1.1 a [abc]")],
        ),
        row(
            "9112 7.1.1: one byte longer",
            chunked("3;aaaaaaaa\r\nabc\r\n0\r\n\r\n"),
            &[BadBody(400, EXTENSIONS)],
        ),
        row(
            "9112 7.1.1: white space counts",
            chunked("3        ;a\r\nabc\r\n0\r\n\r\n"),
            &[BadBody(400, EXTENSIONS)],
        ),
        row(
            "9112 7.1.1: one byte longer in the last",
            chunked("0;aaaaaaaa\r\n\r\n"),
            &[BadBody(400, EXTENSIONS)],
        ),
        row("9112 7.1.1: all together", chunked(format!("{ten}0\r\n\r\n")), &[BadBody(400, EXTENSIONS)]),
        row(
            "9112 7.1.1: all together beside much data",
            chunked(format!("{data}{many}0\r\n\r\n")),
            &[App(answer)],
        ),
        row(
            "9112 7.1.2: as long as they may be",
            chunked("0\r\nX: 7890\r\nY:789\r\n\r\n"),
            &[App("POST / 1.1 a []")],
        ),
        row(
            "9112 7.1.2: one byte longer",
            chunked("0\r\nX: 7890\r\nY:7890\r\n\r\n"),
            &[BadBody(400, TRAILERS)],
        ),
        row(
            "9112 7.1.2: one that never ends",
            chunked(format!("0\r\nX: {}", "7".repeat(99))),
            &[BadBody(400, TRAILERS)],
        ),
    ];
    check(&rows, tight);
}
