//! Applications that go wrong: the client can tell, the log says why, and nobody else notices.

use std::os::unix::process::ExitStatusExt;

use greenserve_tests::{Client, ReadError, ServerProcess, request};

#[test]
fn a_handler_that_panics_is_a_500_and_a_line_in_the_log() {
    let server = ServerProcess::start(["demo"]);
    let mut sleeper = server.connect();
    sleeper.send(request("GET", "/sleep?ms=300", &[], b""));
    let mut client = server.connect();
    client.send(request("GET", "/panic", &[], b""));
    let response = client.response();
    assert_eq!((response.status, response.from_app()), (500, false));
    let line = server.wait_for_log("GET /panic");
    assert!(line.contains("ERROR") && line.contains("panicked"), "it says whose request that was: {line}");
    let line = server.wait_for_log("as it was asked to");
    assert!(line.contains("ERROR") && line.contains("panicked at"), "it says what happened: {line}");
    assert!(
        !String::from_utf8_lossy(&response.body).contains("panic"),
        "nothing of the inside is shown to the client"
    );
    assert_eq!(sleeper.response().status, 200, "the others go on");
    if response.says_close() {
        client.expect_close();
    } else {
        assert_eq!(client.get("/plaintext").status, 200);
    }
}

#[test]
fn a_panic_in_one_of_several_pipelined_requests_is_that_ones_alone() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send([request("GET", "/fixed?n=4", &[], b""), request("GET", "/panic", &[], b"")].concat());
    assert_eq!(client.response().body.len(), 4);
    assert_eq!(client.response().status, 500);
}

#[test]
fn a_panic_in_the_middle_of_a_body_cuts_it_short() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("GET", "/panic-mid", &[], b""));
    match client.try_response() {
        Err(ReadError::Truncated(part)) => {
            assert_eq!(part.status, 200);
            assert!(!part.body.is_empty(), "the part that was flushed before has come");
        }
        other => panic!("the client must be able to tell: {other:?}"),
    }
    server.wait_for_log("panic");
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn many_panics_leave_the_server_as_it_was() {
    let server = ServerProcess::start(["demo"]);
    server.get("/panic");
    let (files, threads) = (server.proc().open_files(), server.proc().threads());
    for _ in 0..200 {
        assert_eq!(server.get("/panic").status, 500);
    }
    greenserve_tests::eventually(greenserve_tests::PATIENCE, || server.proc().open_files() <= files);
    assert!(server.proc().threads() <= threads);
}

#[test]
fn a_body_shorter_than_declared_is_cut_short_and_logged() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("GET", "/bad-length?declared=100&actual=40", &[], b""));
    match client.try_response() {
        Ok(response) => assert_eq!(response.status, 500),
        Err(ReadError::Truncated(part)) => {
            assert_eq!(part.header("content-length"), Some("100"));
            assert!(part.body.len() <= 40);
        }
        Err(error) => panic!("{error}"),
    }
    server.wait_for_log("/bad-length");
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_body_longer_than_declared_never_exceeds_its_length() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(
        [
            request("GET", "/bad-length?declared=40&actual=100", &[], b""),
            request("GET", "/fixed?n=1", &[], b""),
        ]
        .concat(),
    );
    match client.try_response() {
        Ok(response) if response.status == 200 => assert_eq!(response.body.len(), 40),
        Ok(response) => assert_eq!(response.status, 500),
        Err(ReadError::Truncated(part)) => assert!(part.body.len() <= 40),
        Err(error) => panic!("{error}"),
    }
    client.expect_gone();
    server.wait_for_log("/bad-length");
}

#[test]
fn a_body_that_keeps_its_word_is_left_alone() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    assert_eq!(client.get("/bad-length?declared=40&actual=40").body.len(), 40);
    assert_eq!(client.get("/plaintext").status, 200);
}

#[test]
fn a_header_cannot_be_injected() {
    let server = ServerProcess::start(["demo"]);
    let usual = server.get("/panic").headers.len();
    for place in ["value-crlf", "value-lf", "value-cr", "value-nul", "name-crlf"] {
        let mut client: Client = server.connect();
        client.send(request("GET", &format!("/bad-header?where={place}"), &["Connection: close"], b""));
        let response = client.response();
        assert!(response.status >= 400, "{place}: {}", response.status);
        assert!(
            response
                .headers
                .iter()
                .all(|(name, value)| !format!("{name}{value}").to_lowercase().contains("inject"))
        );
        assert!(response.headers.len() <= usual + 3, "{place}: {:?}", response.headers);
        client.expect_close();
    }
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_stack_overflow_is_reported_by_the_greenlets_name_and_ends_the_process() {
    let mut server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(request("GET", "/overflow", &[], b""));
    client.expect_gone();
    let status = server.wait_exit();
    assert!(matches!(status.signal(), Some(libc::SIGABRT | libc::SIGSEGV)), "{status}");
    let log = server.log();
    let line =
        log.lines().find(|line| line.contains("overflow")).unwrap_or_else(|| panic!("no report in {log}"));
    assert!(line.contains("KiB") || line.contains("bytes"), "the report names the stack's size: {line}");
}
