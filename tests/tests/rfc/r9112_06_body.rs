//! RFC 9112, section 6: how a body is delimited.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{Row, check, field, row};

const LENGTH: &str = "Content-Length is not one number";
const CODING: &str = "Transfer-Encoding is malformed or does not end in chunked";
const UNKNOWN: &str = "the only transfer coding known here is chunked";
const BOTH: &str = "both Transfer-Encoding and Content-Length";
const OLD: &str = "Transfer-Encoding in HTTP/1.0";

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[test]
fn section_6_1_transfer_encoding() {
    let mut rows = vec![
        row(
            "9112 6.1: chunked",
            post("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            &[App("POST / 1.1 a [hi]")],
        ),
        row(
            "9112 7: in any case",
            post("tRANSFER-eNCODING: CHUNKED\r\n", "0\r\n\r\n"),
            &[App("POST / 1.1 a []")],
        ),
        row(
            "9112 6.1: white space around it",
            post("Transfer-Encoding:\t chunked \t\r\n", "0\r\n\r\n"),
            &[App("POST / 1.1 a []")],
        ),
        row(
            "9112 6.1: on any method",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            &[App("GET / 1.1 a [x]")],
        ),
        row(
            "9110 5.1: a similar name is another field",
            post("Transfer_Encoding: gzip\r\nX-Transfer-Encoding: gzip\r\n", ""),
            &[App("POST / 1.1 a []")],
        ),
        row("9110 10.1.4: TE is no framing", post("TE: chunked\r\n", ""), &[App("POST / 1.1 a []")]),
    ];
    for (name, bad, reason, status) in [
        ("9112 6.1: chunked twice", "chunked, chunked", CODING, 400),
        ("9112 6.1: chunked twice over lines", "chunked\r\nTransfer-Encoding: chunked", CODING, 400),
        ("9112 6.1: chunked twice with another between", "chunked, gzip, chunked", CODING, 400),
        ("9112 6.3: chunked not last", "chunked, gzip", CODING, 400),
        ("9112 6.3: chunked not last over lines", "chunked\r\nTransfer-Encoding: x", CODING, 400),
        ("9112 6.3: chunked not last, then identity", "chunked, identity", CODING, 400),
        ("9112 6.3: no chunked", "gzip", CODING, 400),
        ("9112 6.3: identity", "identity", CODING, 400),
        ("9112 6.1: nothing", "", CODING, 400),
        ("9110 5.6.1: an empty element first", ", chunked", CODING, 400),
        ("9110 5.6.1: an empty element last", "chunked,", CODING, 400),
        ("9110 5.6.1: an empty line of it", "\r\nTransfer-Encoding: chunked", CODING, 400),
        ("9112 7: a parameter", "chunked;q=1", CODING, 400),
        ("9112 7: an empty parameter", "chunked;", CODING, 400),
        ("9112 7: quotes", "\"chunked\"", CODING, 400),
        ("9112 7: single quotes", "'chunked'", UNKNOWN, 501),
        ("9112 7: two words", "chunked chunked", CODING, 400),
        ("9112 7: no-break space", "\u{a0}chunked", CODING, 400),
        ("9112 7: line separator", "chunked\u{2028}", CODING, 400),
        ("9112 7: an ending", "chunkedx", UNKNOWN, 501),
        ("9112 7: a beginning", "xchunked", UNKNOWN, 501),
        ("9112 6.1: an unknown coding", "x-new", UNKNOWN, 501),
        ("9112 6.1: an unknown coding and chunked", "x-new, chunked", UNKNOWN, 501),
        ("9112 6.1: gzip and chunked", "gzip, chunked", UNKNOWN, 501),
        ("9112 6.1: gzip and chunked over lines", "gzip\r\nTransfer-Encoding: chunked", UNKNOWN, 501),
        ("9112 6.1: br and chunked", "br, chunked", UNKNOWN, 501),
    ] {
        rows.push(row(name, field(format!("Transfer-Encoding: {bad}")), &[No(status, reason)]));
    }
    rows.push(row(
        "9112 7: vertical tab",
        field("Transfer-Encoding: \x0bchunked"),
        &[No(400, "a header field's value holds a control character")],
    ));
    for fields in ["", "Connection: keep-alive\r\n"] {
        rows.push(row(
            "9112 6.1: in HTTP/1.0, also if it asks to live on",
            format!("POST / HTTP/1.0\r\n{fields}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[No(400, OLD)],
        ));
    }
    for fields in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: x",
        "Content-Length: 5\r\nX: y\r\nTransfer-Encoding: identity",
    ] {
        rows.push(row("9112 6.1: a coding and a length", field(fields), &[No(400, BOTH)]));
    }
    check(&rows, plain);
}

#[test]
fn section_6_2_and_6_3_content_length() {
    let mut rows = vec![
        row("9112 6.2: a length", post("Content-Length: 2\r\n", "hi"), &[App("POST / 1.1 a [hi]")]),
        row("9112 6.3: nothing said is nothing there", post("", ""), &[App("POST / 1.1 a []")]),
        row("9112 6.2: zero", post("Content-Length: 0\r\n", ""), &[App("POST / 1.1 a []")]),
        row("9110 8.6: leading zeros", post("Content-Length: 0002\r\n", "hi"), &[App("POST / 1.1 a [hi]")]),
        row(
            "9112 6.3: on any method",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            &[App("GET / 1.1 a [hi]")],
        ),
        row(
            "9112 6.3: in HTTP/1.0",
            "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
            &[Last("POST / 1.0 - [hi]")],
        ),
        row(
            "9112 6.3: equal lengths",
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"),
            &[App("POST / 1.1 a [hi]")],
        ),
        row(
            "9112 6.3: the body is bytes, whatever they look like",
            post("Content-Length: 24\r\n", "GET /x HTTP/1.1\r\nHost: a"),
            &[App("POST / 1.1 a [GET /x HTTP/1.1\\r\\nHost: a]")],
        ),
        row(
            "9112 6.3: an unread body is no request",
            "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            &[App("unread")],
        ),
        row(
            "9112 6.3: nor is what is left of one",
            "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\n1GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            &[App("one 1")],
        ),
        row(
            "9110 5.1: a similar name is another field",
            post("Content_Length: 5\r\nContent-Lengths: 5\r\n", ""),
            &[App("POST / 1.1 a []")],
        ),
    ];
    for (name, bad) in [
        ("9110 8.6: a plus", "+5"),
        ("9110 8.6: a minus", "-5"),
        ("9110 8.6: minus zero", "-0"),
        ("9110 8.6: hexadecimal", "0x5"),
        ("9110 8.6: hexadecimal digits", "a"),
        ("9110 8.6: a letter behind", "5a"),
        ("9110 8.6: a space inside", "5 5"),
        ("9110 8.6: a point", "5.0"),
        ("9110 8.6: an exponent", "1e1"),
        ("9110 8.6: an underscore", "1_0"),
        ("9110 8.6: quotes", "\"5\""),
        ("9110 8.6: digits of another script", "\u{0665}"),
        ("9110 8.6: superscript", "\u{b2}"),
        ("9110 8.6: nothing", ""),
        ("9110 8.6: a list of equals", "5, 5"),
        ("9110 8.6: a list", "5, 6"),
        ("9110 8.6: an empty element", "5,"),
        ("9110 8.6: a semicolon", "5;"),
        ("9112 6.3: beyond 64 bits", "18446744073709551616"),
        ("9112 6.3: 5 beyond 64 bits", "18446744073709551621"),
        ("9112 6.3: far beyond", "99999999999999999999999999999999999999"),
        ("9112 6.3: different lengths", "5\r\nContent-Length: 6"),
        ("9112 6.3: different lengths in different cases", "5\r\ncontent-length: 0"),
        ("9112 6.3: a good one and a bad one", "5\r\nContent-Length: x"),
        ("9112 6.3: a bad one and a good one", "\r\nContent-Length: 5"),
    ] {
        rows.push(row(name, field(format!("Content-Length: {bad}")), &[No(400, LENGTH)]));
    }
    check(&rows, plain);
}

#[test]
fn a_body_is_framed_again_for_each_request() {
    let chunks = "Transfer-Encoding: chunked\r\n";
    let stream = [
        post("Content-Length: 3\r\n", "abc"),
        post(chunks, "1\r\nd\r\n2\r\nef\r\n0\r\n\r\n"),
        post("", ""),
        post(chunks, "0\r\nT: t\r\n\r\n"),
        post("Content-Length: 1\r\n", "g"),
    ];
    let answers = ["abc", "def", "", "", "g"].map(|body| {
        let text: &'static str = Box::leak(format!("POST / 1.1 a [{body}]").into_boxed_str());
        App(text)
    });
    check(&[row("9112 6: several on one connection", stream.concat(), &answers)] as &[Row], plain);
}
