//! RFC 9110, section 5: names and values of fields.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, field, row};

#[test]
fn section_5_1_names() {
    let mut rows = vec![
        row(
            "9110 5.6.2: every character of a token",
            "GET /fields HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
            &[App("!#$%&'*+-.^_`|~09azAZ=x")],
        ),
        row(
            "9110 5.1: in any case",
            "GET /a HTTP/1.1\r\nhOST: a\r\ncONNECTION: CLOSE\r\n\r\n",
            &[Last("GET /a 1.1 a []")],
        ),
        row(
            "9110 5.3: a repeated field in the map",
            "GET /map HTTP/1.1\r\nHost: a\r\nB: 1\r\na: 2\r\nb: 3\r\n\r\n",
            &[App("a=\"2\"|b=\"1\"|b=\"3\"|host=\"a\"")],
        ),
    ];
    for (name, byte) in [
        ("9110 5.1: NUL", 0),
        ("9110 5.1: a control character", 1),
        ("9110 5.1: VT", 0x0b),
        ("9110 5.1: DEL", 0x7f),
        ("9110 5.1: a byte above", 0x80),
        ("9110 5.1: UTF-8's first", 0xc3),
        ("9110 5.1: 0xff", 0xff),
        ("9110 5.1: quotes", b'"'),
        ("9110 5.1: (", b'('),
        ("9110 5.1: )", b')'),
        ("9110 5.1: ,", b','),
        ("9110 5.1: /", b'/'),
        ("9110 5.1: ;", b';'),
        ("9110 5.1: <", b'<'),
        ("9110 5.1: =", b'='),
        ("9110 5.1: ?", b'?'),
        ("9110 5.1: @", b'@'),
        ("9110 5.1: [", b'['),
        ("9110 5.1: backslash", b'\\'),
        ("9110 5.1: {", b'{'),
    ] {
        rows.push(row(name, field([b'X', byte, b':', b'y']), &[No(400, "a header field has no valid name")]));
    }
    check(&rows, plain);
}

#[test]
fn section_5_5_values() {
    let mut rows = vec![
        row(
            "9110 5.5: a tab inside",
            "GET /fields HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n",
            &[App("X=a\\tb")],
        ),
        row(
            "9110 5.5: obs-text",
            b"GET /fields HTTP/1.1\r\nHost: a\r\nX: \x80\xe4\xff\r\n\r\n",
            &[App("X=\\x80\\xe4\\xff")],
        ),
        row(
            "9110 5.6.3: no-break space is no white space",
            b"GET /fields HTTP/1.1\r\nHost: a\r\nX: \xa0y\xa0\r\n\r\n",
            &[App("X=\\xa0y\\xa0")],
        ),
    ];
    // All that are no line ends. Which byte comes first and last in a value matters to some parsers.
    for byte in (0..0x20).filter(|byte| !b"\t\n\r".contains(byte)).chain([0x7f]) {
        for value in [&[b'a', byte, b'b'][..], &[byte], &[b'a', byte]] {
            let bytes = field([b"X: ", value].concat());
            rows.push(row(
                "9110 5.5: a control character in a value",
                bytes,
                &[No(400, "a header field's value holds a control character")],
            ));
        }
    }
    check(&rows, plain);
}
