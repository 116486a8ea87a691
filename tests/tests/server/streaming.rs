//! Bodies of responses that are made while they are sent.

use std::time::Duration;

use greenserve_tests::{Client, Framing, PATIENCE, ServerProcess, eventually, request};

fn stream(server: &ServerProcess, query: &str) -> Client {
    let mut client = server.connect();
    client.send(request("GET", &format!("/stream?{query}"), &[], b""));
    client
}

#[test]
fn a_stream_is_chunked_to_http_1_1_and_leaves_the_connection_in_step() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for (n, size) in [(0, 0), (0, 5), (1, 1), (3, 5), (100, 1000), (50, 100_000)] {
        let response = client.get(&format!("/stream?n={n}&size={size}"));
        assert_eq!((response.status, response.framing), (200, Framing::Chunked));
        assert_eq!(response.body.len(), n * size, "n={n} size={size}");
    }
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn a_stream_is_delimited_by_the_end_of_the_connection_for_http_1_0() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("GET /stream?n=10&size=1000 HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.framing, response.body.len()), (Framing::Close, 10_000));
}

#[test]
fn what_is_written_is_sent_while_the_application_goes_on() {
    let server = ServerProcess::start(["demo"]);
    let mut client = stream(&server, "n=2&size=5&delay_ms=60000");
    assert_eq!(client.read_head("GET").expect("a head").status, 200);
    assert_eq!(client.read_chunk().len(), 5, "the first write, long before the second is made");
    let mut old = server.connect();
    old.send("GET /stream?n=2&size=5&delay_ms=60000 HTTP/1.0\r\n\r\n");
    assert_eq!(old.read_head("GET").expect("a head").framing, Framing::Close);
}

#[test]
fn an_empty_write_does_not_end_the_body() {
    let server = ServerProcess::start(["demo"]);
    let response = stream(&server, "n=4&size=6&empty=1").response();
    assert_eq!(response.body.len(), 24);
    let slow = stream(&server, "n=4&size=6&empty=1&delay_ms=10").response();
    assert_eq!(slow.body.len(), 24);
}

#[test]
fn streams_run_side_by_side() {
    let server = ServerProcess::start(["demo"]);
    let mut clients: Vec<Client> = (0..50).map(|_| stream(&server, "n=20&size=100&delay_ms=5")).collect();
    for client in &mut clients {
        assert_eq!(client.response().body.len(), 2000);
    }
}

#[test]
fn a_stream_to_a_client_that_does_not_read_waits_and_takes_no_memory() {
    let server = ServerProcess::start(["demo"]);
    stream(&server, "n=50&size=100000").response();
    let before = server.proc().resident();
    let mut stalled: Vec<Client> = (0..5).map(|_| stream(&server, "n=100000&size=100000")).collect();
    for client in &mut stalled {
        client.read_head("GET").expect("a head");
    }
    // the server is through with what the kernel's buffers hold when it no longer computes
    let mut last = Duration::MAX;
    eventually(PATIENCE, || {
        let now = server.proc().cpu_time();
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut last, now) == now
    });
    let grown = server.proc().resident().saturating_sub(before);
    assert!(grown < 50_000_000, "five streams of 10 GB made the server grow by {grown} bytes");
    assert_eq!(server.get("/plaintext").status, 200);
    stalled.into_iter().for_each(Client::reset);
}

#[test]
fn a_large_stream_arrives_whole_at_a_client_that_reads_late() {
    let server = ServerProcess::start(["demo"]);
    let mut client = stream(&server, "n=200&size=100000");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.response().body.len(), 20_000_000);
}
