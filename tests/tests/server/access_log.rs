//! The access log: one line per request in the combined format, as gunicorn writes it.

use greenserve_tests::{Scratch, ServerProcess, eventually, request};

#[test]
fn each_request_is_one_line_in_the_combined_format() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-"]);
    let headers = ["User-Agent: tester/1.0", "Referer: http://from.example/"];
    assert_eq!(server.answer_to(request("GET", "/fixed?n=42", &headers, b"")).status, 200);
    let line = server.wait_for_output("/fixed?n=42");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains(r#"] "GET /fixed?n=42 HTTP/1.1" 200 42 "http://from.example/" "tester/1.0""#),
        "{line}"
    );
    server.get("/no-such");
    let line = server.wait_for_output("/no-such");
    assert!(line.contains(r#""GET /no-such HTTP/1.1" 404 "#) && line.contains(r#" "-" "-""#), "{line}");
}

#[test]
fn there_is_none_unless_asked_for() {
    let server = ServerProcess::start(["demo"]);
    server.get("/plaintext");
    server.get("/fixed?n=3");
    assert!(
        !server.output().contains("GET") && !server.log().contains("\"GET"),
        "{}{}",
        server.output(),
        server.log()
    );
}

#[test]
fn it_goes_to_a_file_if_one_is_named() {
    let scratch = Scratch::new();
    let path = scratch.join("access.log");
    let mut server = ServerProcess::start(["demo", "--access-logfile", path.to_str().unwrap()]);
    for n in 1..=20 {
        server.get(&format!("/fixed?n={n}"));
    }
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    let log = std::fs::read_to_string(&path).unwrap();
    assert_eq!(log.lines().count(), 20, "{log}");
    assert!(
        log.lines().zip(1..).all(|(line, n)| line.contains(&format!("/fixed?n={n} HTTP/1.1\" 200 {n} "))),
        "{log}"
    );
}

#[test]
fn a_client_cannot_forge_a_line() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-"]);
    let forged = "User-Agent: x\" 200 1 \"\t127.0.0.1 - -";
    server.answer_to(request("GET", "/fixed?n=7&q=%22%0a", &[forged], b""));
    let line = server.wait_for_output("/fixed?n=7");
    assert!(!line.contains("x\" 200 1"), "the quote is escaped: {line}");
    assert!(line.contains("%22%0a"), "the target is as it came: {line}");
}

#[test]
fn streams_refusals_and_panics_are_logged_with_what_was_sent() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-"]);
    server.get("/stream?n=3&size=10");
    assert!(server.wait_for_output("/stream").contains("\" 200 30 "));
    server.get("/panic");
    assert!(server.wait_for_output("/panic").contains("\" 500 "));
    server.answer_to("GET relative HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually(greenserve_tests::PATIENCE, || server.output().lines().any(|line| line.contains("\" 400 ")));
}
