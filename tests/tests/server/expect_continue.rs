//! `Expect: 100-continue` (RFC 9110 section 10.1.1): asked for the body only when the application wants it.

use std::time::Duration;

use greenserve_tests::{ServerProcess, request};

fn expecting(target: &str, length: usize) -> Vec<u8> {
    request("POST", target, &["Expect: 100-continue", &format!("Content-Length: {length}")], b"")
}

#[test]
fn the_client_is_told_to_go_on_when_the_application_reads_the_body() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(expecting("/upload", 5));
        let interim = client.response();
        assert_eq!((interim.status, interim.from_app()), (100, false));
        client.send("hello");
        assert_eq!(client.response().json()["length"], 5, "and the connection stays in step");
    }
}

#[test]
fn the_expectation_is_met_in_any_case_and_for_chunked_bodies() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("POST", "/upload", &["Expect: 100-Continue", "Transfer-Encoding: chunked"], b""));
    assert_eq!(client.response().status, 100);
    client.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response().json()["length"], 5);
}

#[test]
fn an_application_that_ignores_the_body_answers_without_asking_for_it() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(expecting("/ignore-body", 5));
    let response = client.response();
    assert_eq!(response.status, 200, "no interim response before it");
    // the client may now send the body or not, so what comes next means nothing: RFC 9110 section 10.1.1
    assert!(response.says_close());
    client.expect_close();
}

#[test]
fn a_refusal_comes_in_place_of_100() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("POST", "/upload", &["Expect: 100-continue", "Content-Length: x"], b""));
    assert_eq!(client.response().status, 400);
    client.expect_close();
}

#[test]
fn http_1_0_is_never_sent_an_interim_response() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("POST /upload HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    client.expect_silence(Duration::from_millis(150));
    client.send("hello");
    assert_eq!(client.response().json()["length"], 5);
}

#[test]
fn a_body_that_is_there_already_or_empty_needs_no_100() {
    let server = ServerProcess::start(["demo"]);
    let mut eager = server.connect();
    eager.send([expecting("/upload", 5), b"hello".to_vec()].concat());
    let first = eager.response();
    let last = if first.status == 100 { eager.response() } else { first };
    assert_eq!(last.json()["length"], 5);

    let mut empty = server.connect();
    empty.send(request("POST", "/upload", &["Expect: 100-continue", "Content-Length: 0"], b""));
    assert_eq!(empty.response().json()["length"], 0);
}

#[test]
fn an_unknown_expectation_is_417() {
    let server = ServerProcess::start(["demo"]);
    for value in ["miracles", "100-continue, miracles", "100-continued"] {
        let response = server.answer_to(request("GET", "/echo", &[&format!("Expect: {value}")], b""));
        assert_eq!((response.status, response.from_app()), (417, false), "{value}");
    }
}
