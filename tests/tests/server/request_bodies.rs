//! Bodies of requests: cut short, unread, arriving in pieces.

use std::time::Duration;

use greenserve_tests::{ReadError, ServerProcess, eventually, request};

#[test]
fn a_chunked_upload_that_trickles_in_is_read_as_it_comes() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let body = "4\r\nwith\r\n1\r\n \r\n7\r\npauses \r\na\r\nin between\r\n0\r\n\r\n";
    assert!(client.send_slowly(body.as_bytes(), 3, Duration::from_millis(5)));
    assert_eq!(client.response().json()["length"], 22);
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn an_unread_body_is_skipped_and_never_taken_for_a_request() {
    let server = ServerProcess::start(["demo"]);
    let smuggled = request("GET", "/fixed?n=9", &[], b"");
    let chunked = format!("{:x}\r\n{}\r\n0\r\n\r\n", smuggled.len(), String::from_utf8_lossy(&smuggled));
    let mut client = server.connect();
    client.send(request("POST", "/ignore-body", &[], &smuggled));
    client.send(request("GET", "/fixed?n=1", &[], b""));
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().body.len(), 1);
    client.send(request("POST", "/ignore-body", &["Transfer-Encoding: chunked"], b""));
    client.send(chunked);
    client.send(request("GET", "/fixed?n=2", &["Connection: close"], b""));
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().body.len(), 2);
    client.expect_close();
}

#[test]
fn an_unread_body_that_breaks_the_rules_ends_the_connection() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("POST", "/ignore-body", &["Transfer-Encoding: chunked"], b""));
    client.send("5\r\nhello, there\r\n0\r\n\r\n");
    client.send(request("GET", "/plaintext", &[], b""));
    let first = client.response();
    assert!(first.status == 200 || first.status == 400);
    client.expect_close();
}

#[test]
fn a_large_unread_body_does_not_cost_the_client_its_answer() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("POST /ignore-body HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n");
    // as much as a client would have under way by the time the answer is there
    for _ in 0..20 {
        if client.try_send(&[b'x'; 16 * 1024]).is_err() {
            break;
        }
    }
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(response.from_app());
    client.set_patience(Duration::from_secs(20));
    match client.try_response() {
        Err(ReadError::Closed | ReadError::Failed(_)) => {}
        other => panic!("a gigabyte of unread body is not worth waiting for: {other:?}"),
    }
}

#[test]
fn a_large_upload_takes_no_more_memory_than_a_buffer() {
    let server = ServerProcess::start(["demo"]);
    server.connect().post("/upload", &[b'x'; 100_000]);
    let before = server.proc().resident();
    let mut client = server.connect();
    let total: usize = 64 << 20;
    client.send(format!("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {total}\r\n\r\n"));
    for _ in 0..total >> 20 {
        client.send(vec![b'x'; 1 << 20]);
    }
    assert_eq!(client.response().json()["length"], total);
    let grown = server.proc().resident().saturating_sub(before);
    assert!(grown < total as u64 / 8, "an upload of {total} bytes made the server grow by {grown}");
}

#[test]
fn an_upload_may_pause_while_others_are_served() {
    let server = ServerProcess::start(["demo"]);
    let mut slow = server.connect();
    slow.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello");
    for _ in 0..10 {
        assert_eq!(server.connect().post("/upload", b"quick").json()["length"], 5);
    }
    slow.send("world");
    assert_eq!(slow.response().json()["length"], 10);
    eventually(Duration::from_secs(10), || server.get("/plaintext").status == 200);
}
