//! Several requests in one piece (RFC 9112 section 9.3.2). That cuts never matter is shown in `rfc/`.

use greenserve_tests::{ServerProcess, request};

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
