//! Limits on what a request may be; each is a setting and has its status.

use greenserve_tests::{ServerProcess, request};

/// A GET whose request line has exactly `length` bytes, without its CRLF.
fn line_of(length: usize) -> Vec<u8> {
    let around = "GET / HTTP/1.1".len();
    request("GET", &format!("/{}", "x".repeat(length - around)), &[], b"")
}

/// A request with `count` fields in all.
fn fields_of(count: usize) -> Vec<u8> {
    let names: Vec<String> = (1..count).map(|n| format!("X-{n}: {n}")).collect();
    request("GET", "/plaintext", &names.iter().map(String::as_str).collect::<Vec<_>>(), b"")
}

#[test]
fn a_request_line_over_its_limit_is_414() {
    let server = ServerProcess::start(["demo", "--limit-request-line", "100"]);
    assert_eq!(server.answer_to(line_of(100)).status, 404, "just within the limit");
    let mut client = server.connect();
    client.send(line_of(101));
    let response = client.response();
    assert_eq!((response.status, response.from_app()), (414, false));
    client.expect_close();
}

#[test]
fn the_default_limit_of_the_request_line_is_gunicorns() {
    let server = ServerProcess::start(["demo"]);
    assert_eq!(server.answer_to(line_of(4094)).status, 404);
    assert_eq!(server.answer_to(line_of(4095)).status, 414);
}

#[test]
fn too_many_fields_are_431() {
    let server = ServerProcess::start(["demo", "--limit-request-fields", "5"]);
    assert_eq!(server.answer_to(fields_of(5)).status, 200, "just within the limit");
    let mut client = server.connect();
    client.send(fields_of(6));
    let response = client.response();
    assert_eq!((response.status, response.from_app()), (431, false));
    client.expect_close();
}

#[test]
fn the_default_limit_of_fields_is_gunicorns() {
    let server = ServerProcess::start(["demo"]);
    assert_eq!(server.answer_to(fields_of(100)).status, 200);
    assert_eq!(server.answer_to(fields_of(101)).status, 431);
}

#[test]
fn a_field_over_its_limit_is_431() {
    let server = ServerProcess::start(["demo", "--limit-request-field_size", "200"]);
    let sized = |size: usize| request("GET", "/plaintext", &[&format!("X: {}", "y".repeat(size))], b"");
    assert_eq!(server.answer_to(sized(150)).status, 200, "well within the limit");
    let mut client = server.connect();
    client.send(sized(201));
    let response = client.response();
    assert_eq!((response.status, response.from_app()), (431, false));
    client.expect_close();
}

#[test]
fn a_limit_holds_however_slowly_the_excess_arrives() {
    let server =
        ServerProcess::start(["demo", "--limit-request-line", "100", "--limit-request-field_size", "100"]);
    let endless_field = request("GET", "/", &[&format!("X: {}", "y".repeat(500))], b"");
    for (bytes, status) in [(line_of(500), 414), (endless_field, 431)] {
        let mut client = server.connect();
        client.send_slowly(&bytes, 7, std::time::Duration::from_micros(300));
        assert_eq!(client.response().status, status);
        client.expect_close();
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off_and_takes_no_memory() {
    let server = ServerProcess::start(["demo"]);
    server.get("/plaintext");
    let before = server.proc().resident();
    let starts = ["", "GET /", "GET / HTTP/1.1\r\nHost: test\r\nX: ", "GET / HTTP/1.1\r\nHost: test\r\n"];
    for start in starts {
        let mut client = server.connect();
        client.send(start);
        let filler = if start.ends_with('\n') { "A: b\r\n".repeat(10_000) } else { "x".repeat(60_000) };
        // 60 MB, if the server took them
        let taken = (0..1000).take_while(|_| client.try_send(filler.as_bytes()).is_ok()).count();
        assert!(taken < 1000, "the server has read 60 MB of head behind {start:?}");
    }
    let grown = server.proc().resident().saturating_sub(before);
    assert!(grown < 30_000_000, "endless heads made the server grow by {grown} bytes");
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn empty_lines_before_a_request_have_an_end() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    let taken = (0..1000).take_while(|_| client.try_send("\r\n".repeat(30_000).as_bytes()).is_ok()).count();
    assert!(taken < 1000, "the server has read 60 MB of empty lines");
}

#[test]
fn chunk_extensions_and_trailers_have_their_settings() {
    let server = ServerProcess::start(["demo", "--limit-chunk-extensions", "6", "--limit-trailers", "6"]);
    for (body, status) in [
        ("1;45678\r\nx\r\n0\r\n\r\n", 200),
        ("1;456789\r\nx\r\n0\r\n\r\n", 400),
        ("0\r\nX: 456\r\n\r\n", 200),
        ("0\r\nX: 4567\r\n\r\n", 400),
    ] {
        let head = request("POST", "/upload", &["Transfer-Encoding: chunked"], b"");
        assert_eq!(server.answer_to([&head, body.as_bytes()].concat()).status, status, "{body:?}");
    }
}

#[test]
fn chunk_extensions_and_trailers_have_an_end() {
    let server = ServerProcess::start(["demo"]);
    for endless in ["5;", "5\r\nhello\r\n0\r\nX: "] {
        let mut client = server.connect();
        client.send(request("POST", "/upload", &["Transfer-Encoding: chunked"], b""));
        client.send(endless);
        let taken = (0..1000).take_while(|_| client.try_send("x".repeat(60_000).as_bytes()).is_ok()).count();
        assert!(taken < 1000, "the server has read 60 MB behind {endless:?}");
    }
    assert_eq!(server.get("/plaintext").status, 200);
}
