//! Several requests in one piece, and one request in many pieces: the cuts never matter (RFC 9112 section 9.3.2).

use std::thread;
use std::time::Duration;

use greenserve_tests::{Client, Response, ServerProcess, request};

/// Requests of all shapes whose answers differ, the last one asking to close.
fn stream_of_requests() -> Vec<u8> {
    let chunked = "POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=1\r\nhello\r\n006\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n";
    [
        request("GET", "/fixed?n=1", &[], b""),
        request("POST", "/upload", &[], b"GET /fixed?n=9 HTTP/1.1\r\nHost: test\r\n\r\n"),
        chunked.as_bytes().to_vec(),
        request("GET", "/status/204", &[], b""),
        request("POST", "/ignore-body", &[], b"GET /fixed?n=9 HTTP/1.1\r\nHost: test\r\n\r\n"),
        request("PUT", "/status/404", &[], b"\r\n\r\n"),
        request("GET", "/fixed?n=2", &["Connection: close"], b""),
    ]
    .concat()
}

/// Reads the answers to [`stream_of_requests`] and the end; dates, which may differ, are taken out.
#[track_caller]
fn answers(client: &mut Client) -> Vec<Response> {
    let mut responses: Vec<Response> = (0..7).map(|_| client.response()).collect();
    client.expect_close();
    for response in &mut responses {
        response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    }
    responses
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(stream_of_requests());
    let answers = answers(&mut client);
    assert_eq!(answers.iter().map(|r| r.status).collect::<Vec<_>>(), [200, 200, 200, 204, 200, 404, 200]);
    assert_eq!(answers[0].body.len(), 1);
    assert_eq!(answers[1].json()["length"], 39);
    assert_eq!(answers[2].json()["length"], 11);
    assert_eq!(answers[6].body.len(), 2);
}

#[test]
fn a_slow_answer_holds_back_the_quick_one_behind_it() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send([request("GET", "/sleep?ms=200", &[], b""), request("GET", "/fixed?n=7", &[], b"")].concat());
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().body.len(), 7);
}

#[test]
fn hundreds_of_pipelined_requests_are_all_answered() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("GET", "/plaintext", &[], b"").repeat(500));
    for n in 0..500 {
        assert_eq!(client.response().text(), "Hello, World!", "answer {n}");
    }
}

#[test]
fn nothing_behind_a_request_that_asks_to_close_is_executed() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-"]);
    let mut client = server.connect();
    let close = request("GET", "/fixed?n=3", &["Connection: close"], b"");
    client.send([close, request("GET", "/never-reached", &[], b"")].concat());
    assert_eq!(client.response().body.len(), 3);
    client.expect_close();
    server.get("/the-end");
    server.wait_for_output("/the-end");
    assert!(!server.output().contains("/never-reached"), "{}", server.output());
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_first_and_nothing_after_it() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    let (good, bad) = (request("GET", "/fixed?n=3", &[], b""), request("GET", "/", &["bad line"], b""));
    client.send([good.clone(), bad, good].concat());
    assert_eq!(client.response().body.len(), 3);
    assert_eq!(client.response().status, 400);
    client.expect_close();
}

#[test]
fn a_stream_cut_in_two_anywhere_gets_the_same_answers() {
    let server = ServerProcess::start(["demo", "--worker-connections", "2000"]);
    let bytes = stream_of_requests();
    let mut whole = server.connect();
    whole.send(&bytes);
    let expected = answers(&mut whole);
    // the first parts go to all connections before any second part, so that the server has seen the cut
    let mut clients: Vec<Client> = (1..bytes.len())
        .map(|cut| {
            let mut client = server.connect();
            client.send(&bytes[..cut]);
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(&bytes[at + 1..]);
    }
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(answers(client), expected, "cut behind byte {}", at + 1);
    }
}

#[test]
fn a_stream_sent_byte_by_byte_gets_the_same_answers() {
    let server = ServerProcess::start(["demo"]);
    let bytes = stream_of_requests();
    let mut whole = server.connect();
    whole.send(&bytes);
    let mut bytewise = server.connect();
    assert!(bytewise.send_slowly(&bytes, 1, Duration::from_micros(200)));
    assert_eq!(answers(&mut bytewise), answers(&mut whole));
}
