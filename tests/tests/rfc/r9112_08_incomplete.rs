//! RFC 9112, section 8: messages that end too early. None of them reaches the application as a shorter one.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{Row, check, chunked, ended};

const HEAD: &str = "the connection ended inside a request head";
const BODY: &str = "the client left before the end of the request body";

fn every_beginning(name: &'static str, whole: &'static str, from: usize) -> Vec<Row> {
    (from..whole.len()).map(|end| ended(name, &whole[..end], &[BadBody(400, BODY)])).collect()
}

#[test]
fn the_end_inside_a_head_never_serves_it() {
    let whole = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let mut rows: Vec<Row> = (1..whole.len())
        .map(|end| ended("9112 8: a part of a head", &whole[..end], &[No(400, HEAD)]))
        .collect();
    rows.push(ended("9112 8: nothing at all", "", &[]));
    rows.push(ended("9112 8: an empty line", "\r\n", &[No(400, HEAD)]));
    rows.push(ended("9112 8: half an empty line", "\r", &[No(400, HEAD)]));
    rows.push(ended(
        "9112 8: behind a whole request",
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n",
        &[App("GET /1 1.1 a []"), No(400, HEAD)],
    ));
    rows.push(ended(
        "9112 8: what cannot be right is not waited for",
        "GET / HTTP/3.0\r\n",
        &[No(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")],
    ));
    rows.push(ended("9110 9.3.2: no body in answer to HEAD", "HEAD / HTTP/1.1\r\n", &[NoToHead(400, HEAD)]));
    check(&rows, plain);
}

#[test]
fn a_body_that_ends_early_is_an_error_and_never_a_short_body() {
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunks =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    let mut rows = every_beginning("9112 8: less than Content-Length", sized, sized.len() - 5);
    rows.extend(every_beginning("9112 8: no last chunk", chunks, chunks.find(";a").unwrap() - 1));
    rows.push(ended("9112 8: all of it", sized, &[App("POST / 1.1 a [hello]")]));
    rows.push(ended("9112 8: all of it, chunked", chunks, &[App("POST / 1.1 a [hello]")]));
    rows.push(ended(
        "9112 8: in HTTP/1.0",
        "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhell",
        &[BadBody(400, BODY)],
    ));
    rows.push(ended(
        "9112 8: to one that takes it lightly",
        "POST /caught HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        &[Last("caught Some(Incomplete)")],
    ));
    rows.push(ended("9112 8: chunked data that is cut", chunked("9\r\nabc"), &[BadBody(400, BODY)]));
    check(&rows, plain);
}

#[test]
fn a_half_closed_client_gets_all_its_answers() {
    let rows = [
        ended("9112 9.6: one", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", &[App("GET /1 1.1 a []")]),
        ended(
            "9112 9.6: several",
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
            &[App("GET /1 1.1 a []"), App("POST /2 1.1 a [x]")],
        ),
    ];
    check(&rows, plain);
}
