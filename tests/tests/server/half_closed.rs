//! Clients that send their request, shut down their sending side and wait for the answer, as `nc -N` does.

use greenserve_tests::{Framing, ReadError, ServerProcess, request};

#[test]
fn a_half_closed_client_gets_its_answer_and_then_the_end() {
    let server = ServerProcess::start(["demo", "--keep-alive", "600"]);
    for target in ["/plaintext", "/sleep?ms=300", "/stream?n=3&size=10&delay_ms=50", "/fixed?n=2000000"] {
        let mut client = server.connect();
        client.send(request("GET", target, &[], b""));
        client.finish_sending();
        let response = client.response();
        assert_eq!(response.status, 200, "{target}");
        client.expect_close();
    }
}

#[test]
fn a_half_closed_client_gets_all_its_pipelined_answers() {
    let server = ServerProcess::start(["demo", "--keep-alive", "600"]);
    let mut client = server.connect();
    let requests = ["/sleep?ms=100", "/fixed?n=5", "/sleep?ms=100", "/fixed?n=6"];
    client.send(requests.map(|target| request("GET", target, &[], b"")).concat());
    client.finish_sending();
    client.response();
    assert_eq!(client.response().body.len(), 5);
    client.response();
    assert_eq!(client.response().body.len(), 6);
    client.expect_close();
}

#[test]
fn a_body_followed_at_once_by_the_end_is_whole() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("POST", "/upload", &[], b"hello"));
    client.finish_sending();
    assert_eq!(client.response().json()["length"], 5);
    client.expect_close();
}

#[test]
fn an_http_1_0_client_that_half_closes_gets_a_close_delimited_stream() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send("GET /stream?n=3&size=4&delay_ms=20 HTTP/1.0\r\n\r\n");
    client.finish_sending();
    let response = client.response();
    assert_eq!((response.framing, response.body.len()), (Framing::Close, 12));
}

#[test]
fn a_client_that_half_closes_without_a_request_is_let_go() {
    let server = ServerProcess::start(["demo", "--header-timeout", "600", "--keep-alive", "600"]);
    let mut silent = server.connect();
    silent.finish_sending();
    silent.expect_close();
    let mut served = server.connect();
    assert_eq!(served.get("/plaintext").status, 200);
    served.finish_sending();
    assert!(matches!(served.try_response(), Err(ReadError::Closed)));
}
