//! Which connections stay open (RFC 9112 section 9.3), and for how long.

use std::time::Duration;

use greenserve_tests::{Framing, ServerProcess, request};

const LONG: [&str; 3] = ["demo", "--keep-alive", "60"];

#[test]
fn an_http_1_1_connection_serves_one_request_after_the_other() {
    let server = ServerProcess::start(LONG);
    let mut client = server.connect();
    for n in 0..50 {
        let response = client.get(&format!("/fixed?n={n}"));
        assert_eq!((response.status, response.body.len()), (200, n));
        assert!(!response.says_close());
    }
}

#[test]
fn close_in_the_request_ends_the_connection_after_the_answer() {
    let server = ServerProcess::start(LONG);
    let rows: &[&[&str]] = &[
        &["Connection: close"],
        &["Connection: Close"],
        &["Connection: keep-alive, CLOSE"],
        &["Connection: x-option ,\tclose,"],
        &["Connection: keep-alive", "Connection: close"],
        &["Connection: close", "Connection: keep-alive"],
    ];
    for headers in rows {
        let mut client = server.connect();
        client.send(request("GET", "/plaintext", headers, b""));
        let response = client.response();
        assert_eq!(response.text(), "Hello, World!");
        assert!(response.says_close(), "{headers:?}");
        client.expect_close();
    }
}

#[test]
fn an_option_that_only_contains_the_word_close_does_not_close() {
    let server = ServerProcess::start(LONG);
    let mut client = server.connect();
    client.send(request("GET", "/plaintext", &["Connection: closed, enclose", "X-Connection: close"], b""));
    assert!(!client.response().says_close());
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn http_1_0_closes_unless_it_asks_for_keep_alive() {
    let server = ServerProcess::start(LONG);
    let mut plain = server.connect();
    plain.send("GET /plaintext HTTP/1.0\r\n\r\n");
    let response = plain.response();
    assert_eq!((response.text(), response.says_keep_alive()), ("Hello, World!", false));
    plain.expect_close();

    let mut asking = server.connect();
    for _ in 0..3 {
        asking.send("GET /plaintext HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = asking.response();
        assert!(response.says_keep_alive(), "else the client would wait for the end: {:?}", response.headers);
    }
    asking.send("GET /plaintext HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n");
    assert!(!asking.response().says_keep_alive(), "close wins");
    asking.expect_close();
}

#[test]
fn a_close_delimited_answer_closes_even_if_keep_alive_was_asked_for() {
    let server = ServerProcess::start(LONG);
    let mut client = server.connect();
    client.send("GET /stream?n=3&size=5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.framing, response.body.len()), (Framing::Close, 15));
}

#[test]
fn an_idle_connection_is_closed_quietly_after_the_keep_alive_time() {
    let server = ServerProcess::start(["demo", "--keep-alive", "1"]);
    let mut client = server.connect();
    assert_eq!(client.get("/plaintext").status, 200);
    client.expect_close();
}

#[test]
fn the_keep_alive_time_does_not_run_while_a_handler_works() {
    let server = ServerProcess::start(["demo", "--keep-alive", "1"]);
    let mut client = server.connect();
    assert_eq!(client.get("/sleep?ms=1500").status, 200);
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn keep_alive_0_closes_after_each_answer() {
    let server = ServerProcess::start(["demo", "--keep-alive", "0"]);
    let mut client = server.connect();
    let response = client.get("/plaintext");
    assert_eq!((response.status, response.says_close()), (200, true));
    client.expect_close();
}

#[test]
fn a_connection_that_is_closed_by_the_client_between_requests_is_no_error() {
    let server = ServerProcess::start(["demo"]);
    for _ in 0..5 {
        let mut client = server.connect();
        assert_eq!(client.get("/plaintext").status, 200);
    }
    drop(server.connect());
    assert_eq!(server.get("/plaintext").status, 200);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!server.log().contains("ERROR") && !server.log().contains("WARN"), "{}", server.log());
}
