//! RFC 9110, section 10.1.1: `Expect`. When exactly `100 Continue` comes is the matter of
//! `server/expect_continue.rs`; here all bodies are there, and the answers are the same with it and without.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, field, row};

const UNKNOWN: &str = "the only expectation known here is 100-continue";

#[test]
fn section_10_1_1_expect() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let rows = [
        row(
            "9110 10.1.1: met",
            post("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"),
            &[App("POST / 1.1 a [hi]")],
        ),
        row(
            "9110 10.1.1: in any case",
            post("eXPECT: 100-Continue\r\nContent-Length: 2\r\n", "hi"),
            &[App("POST / 1.1 a [hi]")],
        ),
        row(
            "9110 10.1.1: chunked",
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
            &[App("POST / 1.1 a [x]")],
        ),
        row("9110 10.1.1: without a body", post("Expect: 100-continue\r\n", ""), &[App("POST / 1.1 a []")]),
        row(
            "9110 10.1.1: an empty body",
            post("Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
            &[App("POST / 1.1 a []")],
        ),
        row(
            "9110 10.1.1: ignored in 1.0",
            "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
            &[Last("POST / 1.0 - [hi]")],
        ),
        row("9110 10.1.1: another", field("Expect: miracles"), &[No(417, UNKNOWN)]),
        row("9110 10.1.1: another besides", field("Expect: 100-continue, miracles"), &[No(417, UNKNOWN)]),
        row(
            "9110 10.1.1: another over lines",
            field("Expect: 100-continue\r\nExpect: miracles"),
            &[No(417, UNKNOWN)],
        ),
        row("9110 10.1.1: a longer word", field("Expect: 100-continued"), &[No(417, UNKNOWN)]),
        row("9110 10.1.1: a parameter", field("Expect: 100-continue;a=b"), &[No(417, UNKNOWN)]),
        row(
            "9110 10.1.1: what is malformed as well is malformed first",
            field("Expect: miracles\r\nContent-Length: x"),
            &[No(400, "Content-Length is not one number")],
        ),
        row(
            "9110 9.3.2: no body in answer to HEAD",
            "HEAD / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n",
            &[NoToHead(417, UNKNOWN)],
        ),
    ];
    check(&rows, plain);
}
