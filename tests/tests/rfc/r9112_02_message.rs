//! RFC 9112, section 2: the message as a whole, its line ends and its version.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{Row, check, chunked, field, line, row};

const BARE_LF: &str = "a line ends in LF without CR";
const NO_REQUEST: &str = "what came does not start like a request";
const VERSION: &str = "the version is malformed";
const OLD_OR_NEW: &str = "only HTTP/1.0 and HTTP/1.1 are spoken here";

#[test]
fn section_2_2_parsing() {
    check(
        &[
            row(
                "9112 2.1: request line, fields, empty line",
                line("GET /a HTTP/1.1"),
                &[App("GET /a 1.1 a []")],
            ),
            row(
                "9112 2.2: one empty line before the request",
                "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
                &[App("GET /a 1.1 a []")],
            ),
            row(
                "9112 2.2: one empty line behind a body",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n\r\n",
                &[App("POST / 1.1 a [hi]"), App("GET /b 1.1 b []")],
            ),
            row(
                "9112 2.2: two empty lines",
                [b"\r\n\r\n", &line("GET / HTTP/1.1")[..]].concat(),
                &[No(400, NO_REQUEST)],
            ),
            row("9112 2.2: LF first", [b"\n", &line("GET / HTTP/1.1")[..]].concat(), &[No(400, BARE_LF)]),
            row("9112 2.2: CR first", [b"\r", &line("GET / HTTP/1.1")[..]].concat(), &[No(400, NO_REQUEST)]),
            row("9112 2.2: space first", line(" GET / HTTP/1.1"), &[No(400, NO_REQUEST)]),
            row("9112 2.2: tab first", line("\tGET / HTTP/1.1"), &[No(400, NO_REQUEST)]),
            row("9112 2.2: NUL first", line("\0GET / HTTP/1.1"), &[No(400, NO_REQUEST)]),
            row("9112 2.2: byte order mark first", line("\u{feff}GET / HTTP/1.1"), &[No(400, NO_REQUEST)]),
            row(
                "9112 2.2: LF behind the request line",
                "GET / HTTP/1.1\nHost: a\r\n\r\n",
                &[No(400, BARE_LF)],
            ),
            row(
                "9112 2.2: LF behind a field",
                "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
                &[No(400, BARE_LF)],
            ),
            row("9112 2.2: LF as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", &[No(400, BARE_LF)]),
            row("9112 2.2: LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", &[No(400, BARE_LF)]),
            row(
                "9112 2.2: LF in a value hides no field",
                field("X: y\nContent-Length: 9"),
                &[No(400, BARE_LF)],
            ),
            row(
                "9112 2.2: CR in the request line",
                line("GET /\r HTTP/1.1"),
                &[No(400, "the request target holds a byte that must be percent-encoded")],
            ),
            row(
                "9112 2.2: CR behind the version",
                "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
                &[No(400, VERSION)],
            ),
            row(
                "9112 2.2: CR in a value",
                field("X: a\rb"),
                &[No(400, "a header field's value holds a control character")],
            ),
            row(
                "9112 2.2: CR before the line's end",
                field("X: a\r"),
                &[No(400, "a header field's value holds a control character")],
            ),
            row("9112 2.2: CR in a name", field("X\r: a"), &[No(400, "a header field has no valid name")]),
            row(
                "9112 2.2: CR in the empty line",
                "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
                &[No(400, "a header field's value holds a control character")],
            ),
            row(
                "9112 2.2: white space before the first field",
                "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
                &[No(400, "a header field is folded over two lines")],
            ),
        ],
        plain,
    );
}

#[test]
fn section_2_3_version() {
    let mut rows = vec![
        row("9112 2.3: 1.1", line("GET /a HTTP/1.1"), &[App("GET /a 1.1 a []")]),
        row("9112 2.3: 1.0, and the answer says 1.1", line("GET /a HTTP/1.0"), &[Last("GET /a 1.0 a []")]),
        row("9110 2.5: a later 1.x is 1.1", line("GET /a HTTP/1.2"), &[App("GET /a 1.1 a []")]),
        row("9110 2.5: the last 1.x is 1.1", line("GET /a HTTP/1.9"), &[App("GET /a 1.1 a []")]),
        row(
            "9112 2.3: HTTP/0.9",
            "GET /\r\n",
            &[No(400, "the request line is not method, target and version")],
        ),
        row("9113 3.4: the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[No(505, OLD_OR_NEW)]),
        row(
            "8446 5.1: TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            &[No(400, "a TLS handshake on a port that speaks plain HTTP")],
        ),
        row(
            "SSH on a plain port",
            "SSH-2.0-OpenSSH_9.2\r\n",
            &[No(400, "the request line is not method, target and version")],
        ),
        row(
            "PROXY protocol 1 where none is expected",
            "PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
            &[No(400, VERSION)],
        ),
        row("PROXY protocol 2 where none is expected", "\r\n\r\n\0\r\nQUIT\n", &[No(400, NO_REQUEST)]),
    ];
    for (name, version) in [
        ("9110 15.6.6: 2.0", "HTTP/2.0"),
        ("9110 15.6.6: 0.9 spelled out", "HTTP/0.9"),
        ("9110 15.6.6: 3.0", "HTTP/3.0"),
    ] {
        rows.push(row(name, line(format!("GET / {version}")), &[No(505, OLD_OR_NEW)]));
    }
    for (name, version) in [
        ("9112 2.3: lower case", "http/1.1"),
        ("9112 2.3: mixed case", "Http/1.1"),
        ("9112 2.3: two digits", "HTTP/1.10"),
        ("9112 2.3: leading zero", "HTTP/01.1"),
        ("9112 2.3: no minor", "HTTP/1"),
        ("9112 2.3: no digit behind the point", "HTTP/1."),
        ("9112 2.3: a comma", "HTTP/1,1"),
        ("9112 2.3: a sign", "HTTP/+1.1"),
        ("9112 2.3: very many digits", "HTTP/11111111111111111111111111.1"),
        ("9112 2.3: hexadecimal", "HTTP/1.a"),
        ("9112 2.3: another protocol", "ICAP/1.1"),
        ("9112 2.3: no slash", "HTTP1.1"),
        ("9112 2.3: nothing", ""),
    ] {
        rows.push(row(name, line(format!("GET / {version}")), &[No(400, VERSION)]));
    }
    check(&rows, plain);
}

#[test]
fn what_is_right_before_what_is_wrong_is_answered_first_and_nothing_after_it() {
    let good = line("GET /1 HTTP/1.1");
    let rows: Vec<Row> = [
        (
            "9112 9.3.2: a bad request line",
            b"GET /\r\n".to_vec(),
            No(400, "the request line is not method, target and version"),
        ),
        ("9112 9.3.2: a bad field", field("X : y"), No(400, "a header field has no valid name")),
        ("9112 9.3.2: no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), No(400, "there is no Host")),
        (
            "9112 9.3.2: a bad chunk",
            chunked("x\r\n"),
            BadBody(400, "malformed request body: a chunk size is not hexadecimal digits alone"),
        ),
    ]
    .into_iter()
    .map(|(name, bad, answer)| {
        let app = App("GET /1 1.1 a []");
        row(name, [&good[..], &good, &bad, &good].concat(), &[app, app, answer])
    })
    .collect();
    check(&rows, plain);
}
