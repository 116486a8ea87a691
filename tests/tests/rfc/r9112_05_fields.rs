//! RFC 9112, section 5: field lines.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, field, row};

const NAME: &str = "a header field has no valid name";
const FOLD: &str = "a header field is folded over two lines";

#[test]
fn section_5_1_and_5_2_lines() {
    let fields = |fields: &str| format!("GET /fields HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut rows = vec![
        row(
            "9112 5: order, case and repeats are kept",
            fields("B: 1\r\na: 2\r\nB: 3\r\n"),
            &[App("B=1|a=2|B=3")],
        ),
        row("9112 5.1: no white space behind the colon", fields("X:y\r\n"), &[App("X=y")]),
        row("9112 5.1: white space around the value", fields("X:  \ty z\t \r\n"), &[App("X=y z")]),
        row("9112 5.1: an empty value", fields("X:\r\nY: \t\r\n"), &[App("X=|Y=")]),
        row("9112 5.1: colons in the value", fields("X::y:z\r\n"), &[App("X=:y:z")]),
    ];
    for (name, bad, reason) in [
        ("9112 5.1: space before the colon", "X : y", NAME),
        ("9112 5.1: tab before the colon", "X\t: y", NAME),
        ("9112 5.1: space before the colon of a length", "Content-Length : 5", NAME),
        ("9112 5.1: tab before the colon of a coding", "Transfer-Encoding\t: chunked", NAME),
        ("9112 5.1: space inside the name", "X Y: z", NAME),
        ("9112 5.1: no name", ": y", NAME),
        ("9112 5: no colon", "nothing here", NAME),
        ("9112 5: no colon, one word", "X", NAME),
        ("9112 5.2: folded", "X: a\r\n b", FOLD),
        ("9112 5.2: folded with a tab", "X: a\r\n\tb", FOLD),
        ("9112 5.2: folded length", "Content-Length:\r\n 5", FOLD),
        ("9112 5.2: folded coding", "Transfer-Encoding:\r\n chunked", FOLD),
        ("9112 5.2: folded with nothing", "X: a\r\n ", FOLD),
        ("9112 5.2: a field that begins with a space", "X: a\r\n Y: b", FOLD),
    ] {
        rows.push(row(name, field(bad), &[No(400, reason)]));
    }
    check(&rows, plain);
}
