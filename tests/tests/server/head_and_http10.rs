//! HEAD (RFC 9110 section 9.3.2) and the older protocol version.

use greenserve_tests::{Framing, ServerProcess, request};

#[test]
fn head_gets_the_head_of_get_and_no_body() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for target in ["/plaintext", "/fixed?n=1000", "/", "/status/404", "/nowhere"] {
        let get = client.get(target);
        client.send(request("HEAD", target, &[], b""));
        let head = client.response_to("HEAD");
        assert_eq!(head.status, get.status, "{target}");
        assert!(head.from_app());
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        // an echo of HEAD is longer than one of GET, so only the routes with a fixed body can be compared
        if !target.contains("nowhere") {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
        }
    }
    assert_eq!(client.get("/plaintext").text(), "Hello, World!", "the connection is in step");
}

#[test]
fn head_of_a_stream_ends_with_the_head() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("HEAD", "/stream?n=3&size=5", &[], b""));
    let head = client.response_to("HEAD");
    assert_eq!((head.status, head.framing), (200, Framing::None));
    assert_eq!(client.get("/plaintext").text(), "Hello, World!");
    let mut endless = server.connect();
    endless.send(request("HEAD", "/stream?n=1000000&size=1000000", &["Connection: close"], b""));
    assert_eq!(endless.response_to("HEAD").status, 200);
    endless.expect_close();
}

#[test]
fn head_requests_can_be_pipelined() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send([request("HEAD", "/fixed?n=50", &[], b""), request("GET", "/fixed?n=2", &[], b"")].concat());
    assert_eq!(client.response_to("HEAD").header("content-length"), Some("50"));
    assert_eq!(client.response().body.len(), 2);
}

#[test]
fn a_refused_head_request_gets_no_body_either() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("HEAD /plaintext HTTP/1.1\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 400);
    client.expect_close();
}

#[test]
fn the_answer_to_http_1_0_names_version_1_1_and_has_no_coding() {
    // RFC 9110 section 2.5: a server names its own version; RFC 9112 section 6.1: no coding for a 1.0 client
    let server = ServerProcess::start(["demo"]);
    for target in ["/plaintext", "/stream?n=2&size=2", "/no-length", "/status/404"] {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.header("transfer-encoding"), None, "{target}");
        client.expect_close();
    }
    let echo = server.answer_to("GET /echo HTTP/1.0\r\n\r\n").json();
    assert_eq!(echo["version"], "HTTP/1.0");
}

#[test]
fn every_answer_has_a_date_that_can_be_read() {
    let server = ServerProcess::start(["demo"]);
    for target in ["/plaintext", "/stream?n=1&size=1", "/nowhere", "/panic", "/status/304", "relative"] {
        let response = server.get(target);
        let date = response.header("date").expect("a date");
        assert!(date.ends_with(" GMT") && httpdate::parse_http_date(date).is_ok(), "{target}: {date}");
    }
}
