//! Requests that break a rule, each with its section of RFC 9112 (or 9110), and odd ones that break none. What is
//! refused gets one answer of the server's own, the connection ends, and nothing behind it is executed.

use std::thread;
use std::time::Duration;

use greenserve_tests::{Client, ReadError, Response, ServerProcess, request};

/// Section, what is wrong, the bytes, the statuses that will do.
type Row = (&'static str, &'static str, Vec<u8>, &'static [u16]);

const BAD: &[u16] = &[400];
const UNKNOWN_CODING: &[u16] = &[400, 501];
const BAD_VERSION: &[u16] = &[400, 505];

fn line(section: &'static str, what: &'static str, line: &'static str, statuses: &'static [u16]) -> Row {
    (section, what, format!("{line}\r\nHost: test\r\n\r\n").into_bytes(), statuses)
}

fn field(section: &'static str, what: &'static str, field: &'static str, statuses: &'static [u16]) -> Row {
    (section, what, request("POST", "/echo", &[field], b""), statuses)
}

fn host(what: &'static str, host: &'static str) -> Row {
    ("9112 3.2", what, format!("GET /echo HTTP/1.1\r\n{host}\r\n").into_bytes(), BAD)
}

fn chunks(section: &'static str, what: &'static str, body: &'static str) -> Row {
    let head = "POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    (section, what, format!("{head}{body}").into_bytes(), BAD)
}

fn malformed() -> Vec<Row> {
    vec![
        ("9112 2.2", "bare LF everywhere", b"GET /echo HTTP/1.1\nHost: test\n\n".to_vec(), BAD),
        (
            "9112 2.2",
            "bare LF behind the request line",
            b"GET /echo HTTP/1.1\nHost: test\r\n\r\n".to_vec(),
            BAD,
        ),
        (
            "9112 2.2",
            "bare LF behind a field",
            b"GET /echo HTTP/1.1\r\nHost: test\nX: y\r\n\r\n".to_vec(),
            BAD,
        ),
        ("9112 2.2", "bare LF as the empty line", b"GET /echo HTTP/1.1\r\nHost: test\r\n\n".to_vec(), BAD),
        field("9112 2.2", "bare CR in a value", "X: a\rb", BAD),
        line("9112 2.2", "bare CR in the request line", "GET /echo\r HTTP/1.1", BAD),
        (
            "9112 2.2",
            "space before the first field",
            b"GET /echo HTTP/1.1\r\n Host: test\r\n\r\n".to_vec(),
            BAD,
        ),
        line("9112 2.3", "version 0.9 spelled out", "GET /echo HTTP/0.9", BAD_VERSION),
        line("9112 2.3", "version 2.0", "GET /echo HTTP/2.0", BAD_VERSION),
        line("9112 2.3", "version 3", "GET /echo HTTP/3", BAD_VERSION),
        line("9112 2.3", "version in lower case", "GET /echo http/1.1", BAD_VERSION),
        line("9112 2.3", "version of two digits", "GET /echo HTTP/1.10", BAD_VERSION),
        line("9112 2.3", "version with leading zero", "GET /echo HTTP/01.1", BAD_VERSION),
        line("9112 2.3", "version without minor", "GET /echo HTTP/1.", BAD_VERSION),
        line("9112 2.3", "another protocol", "GET /echo ICAP/1.1", BAD_VERSION),
        ("9112 2.3", "HTTP/0.9", b"GET /echo\r\n\r\n".to_vec(), BAD_VERSION),
        ("9113 3.4", "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), BAD_VERSION),
        line("9112 3", "two spaces", "GET  /echo HTTP/1.1", BAD),
        line("9112 3", "tabs for spaces", "GET\t/echo\tHTTP/1.1", BAD),
        line("9112 3", "space behind the version", "GET /echo HTTP/1.1 ", BAD),
        line("9112 3", "space before the method", " GET /echo HTTP/1.1", BAD),
        line("9112 3", "space in the target", "GET /ec ho HTTP/1.1", BAD),
        line("9112 3.1", "method with a bracket", "G(T /echo HTTP/1.1", BAD),
        line("9112 3.1", "method with a control character", "G\x01T /echo HTTP/1.1", BAD),
        line("9112 3.2", "no target", "GET HTTP/1.1", BAD),
        line("9112 3.2", "relative target", "GET echo HTTP/1.1", BAD),
        line("9112 3.2", "target with a control character", "GET /e\x01cho HTTP/1.1", BAD),
        line("9112 3.2", "target with DEL", "GET /e\x7fcho HTTP/1.1", BAD),
        line("9112 3.2", "target with NUL", "GET /e\0cho HTTP/1.1", BAD),
        line("9112 3.2", "target with raw UTF-8", "GET /écho HTTP/1.1", BAD),
        line("9112 3.2", "target with a fragment", "GET /echo#top HTTP/1.1", BAD),
        line("9112 3.2.2", "absolute form without a host", "GET http:///echo HTTP/1.1", BAD),
        line("9112 3.2.3", "authority form for GET", "GET test:80 HTTP/1.1", BAD),
        line("9112 3.2.3", "origin form for CONNECT", "CONNECT /echo HTTP/1.1", BAD),
        line("9112 3.2.4", "asterisk form for GET", "GET * HTTP/1.1", BAD),
        host("no Host", ""),
        host("two different Hosts", "Host: a\r\nHost: b\r\n"),
        host("two equal Hosts", "Host: a\r\nHost: a\r\n"),
        host("Host with a space", "Host: a b\r\n"),
        host("Host with a path", "Host: a/b\r\n"),
        host("Host with user information", "Host: me@a\r\n"),
        host("Host with a bad port", "Host: a:8x\r\n"),
        host("Host as a list", "Host: a, b\r\n"),
        host("Host with an open bracket", "Host: [::1\r\n"),
        field("9112 5.1", "space before the colon", "X : y", BAD),
        field("9112 5.1", "tab before the colon", "Content-Length\t: 0", BAD),
        field("9112 5.1", "no colon", "nothing here", BAD),
        field("9110 5.1", "empty name", ": y", BAD),
        field("9110 5.1", "name with a bracket", "X(y): z", BAD),
        field("9110 5.1", "name with a control character", "X\x01: y", BAD),
        field("9110 5.1", "name with NUL", "X\0: y", BAD),
        field("9110 5.1", "name in UTF-8", "Ü: y", BAD),
        field("9112 5.2", "folded line", "X: a\r\n b", BAD),
        field("9112 5.2", "folded line of Content-Length", "Content-Length:\r\n 0", BAD),
        field("9110 5.5", "NUL in a value", "X: a\0b", BAD),
        field("9110 5.5", "control character in a value", "X: a\x08b", BAD),
        field("9110 5.5", "DEL in a value", "X: a\x7fb", BAD),
        field("9110 10.1.1", "unknown expectation", "Expect: miracles", &[417]),
        field("9112 6.1", "unknown coding", "Transfer-Encoding: gzip", UNKNOWN_CODING),
        field(
            "9112 6.1",
            "unknown coding before chunked",
            "Transfer-Encoding: gzip, chunked",
            UNKNOWN_CODING,
        ),
        field("9112 6.1", "chunked not last", "Transfer-Encoding: chunked, gzip", UNKNOWN_CODING),
        field("9112 6.1", "chunked twice", "Transfer-Encoding: chunked, chunked", BAD),
        field(
            "9112 6.1",
            "chunked twice, on two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            BAD,
        ),
        field("9112 6.1", "identity", "Transfer-Encoding: identity", UNKNOWN_CODING),
        field(
            "9112 6.1",
            "a list over two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            UNKNOWN_CODING,
        ),
        field("9112 6.1", "a parameter", "Transfer-Encoding: chunked;q=1", UNKNOWN_CODING),
        field("9112 6.1", "quotes", "Transfer-Encoding: \"chunked\"", UNKNOWN_CODING),
        field("9112 6.1", "vertical tab", "Transfer-Encoding: \x0bchunked", UNKNOWN_CODING),
        field("9112 6.1", "no-break space", "Transfer-Encoding: \u{a0}chunked", UNKNOWN_CODING),
        field("9112 6.1", "a longer word", "Transfer-Encoding: xchunked", UNKNOWN_CODING),
        field("9112 6.1", "no coding", "Transfer-Encoding:", UNKNOWN_CODING),
        field("9112 6.3", "chunked and a length", "Transfer-Encoding: chunked\r\nContent-Length: 5", BAD),
        field("9112 6.3", "a length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked", BAD),
        (
            "9112 6.1",
            "chunked in HTTP/1.0",
            b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            BAD,
        ),
        field("9112 6.3", "length with a plus", "Content-Length: +5", BAD),
        field("9112 6.3", "length with a minus", "Content-Length: -5", BAD),
        field("9112 6.3", "length in hexadecimal", "Content-Length: 0x5", BAD),
        field("9112 6.3", "length with a letter", "Content-Length: 5a", BAD),
        field("9112 6.3", "length with a space", "Content-Length: 5 5", BAD),
        field("9112 6.3", "length with a point", "Content-Length: 5.0", BAD),
        field("9112 6.3", "length with an underscore", "Content-Length: 1_0", BAD),
        field("9112 6.3", "length in other digits", "Content-Length: \u{0665}", BAD),
        field("9112 6.3", "no length at all", "Content-Length:", BAD),
        field("9112 6.3", "length over 64 bits", "Content-Length: 18446744073709551616", &[400, 413]),
        field("9112 6.3", "length that wraps to 5", "Content-Length: 18446744073709551621", &[400, 413]),
        field("9112 6.3", "two different lengths", "Content-Length: 5\r\nContent-Length: 6", BAD),
        field("9112 6.3", "a list of different lengths", "Content-Length: 5, 6", BAD),
        chunks("9112 7.1", "size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size with a letter too far", "g\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size with a space before it", " 5\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size with a space behind it", "5 \r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "empty size", "\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size over 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "size line ended by LF", "5\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "data ended by LF", "5\r\nhello\n0\r\n\r\n"),
        chunks("9112 7.1", "data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        chunks("9112 7.1", "data shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1", "the last chunk ended by LF", "5\r\nhello\r\n0\n\r\n"),
        chunks("9112 7.1.1", "extension ended by LF", "5;a=b\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1.1", "extension with CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1.1", "extension with NUL", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
        chunks("9112 7.1.2", "trailer without a colon", "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n"),
        chunks("9112 7.1.2", "trailer with a space before the colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
        chunks("9112 7.1.2", "trailer ended by LF", "5\r\nhello\r\n0\r\nX: y\n\r\n"),
        chunks("9110 6.5.1", "a length among the trailers", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
        chunks(
            "9110 6.5.1",
            "a coding among the trailers",
            "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ]
}

/// The one answer, and that it is the only one.
#[track_caller]
fn refusal(client: &mut Client, name: &str) -> Response {
    let response = client.try_response().unwrap_or_else(|error| panic!("{name}: {error}"));
    match client.read_rest() {
        Ok(rest) if rest.is_empty() => response,
        Ok(rest) => panic!("{name}: more after the refusal: {:?}", String::from_utf8_lossy(&rest)),
        Err(error) => panic!("{name}: {error} after the refusal"),
    }
}

#[track_caller]
fn check_refusal(response: &Response, (section, what, _, statuses): &Row) {
    let name = format!("{section}, {what}");
    assert!(statuses.contains(&response.status), "{name}: {} is none of {statuses:?}", response.status);
    assert!(!response.from_app(), "{name}: the application has answered");
    assert!(response.says_close(), "{name}: the client is not told that the connection ends");
}

#[test]
fn a_malformed_request_is_refused_and_nothing_behind_it_is_executed() {
    let server = ServerProcess::start(["demo"]);
    let behind = request("GET", "/plaintext", &[], b"");
    let mut failures = Vec::new();
    for row in malformed() {
        let mut client = server.connect();
        client.send([row.2.clone(), behind.clone()].concat());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check_refusal(&refusal(&mut client, &format!("{}, {}", row.0, row.1)), &row);
        }));
        failures.extend(result.err().and_then(|panic| panic.downcast::<String>().ok()));
    }
    assert!(failures.is_empty(), "{} rows fail:\n{failures:#?}", failures.len());
}

#[test]
fn a_malformed_request_sent_byte_by_byte_gets_the_same_answer() {
    let server = ServerProcess::start(["demo", "--worker-connections", "500"]);
    let rows = malformed();
    let mut whole: Vec<Client> = rows.iter().map(|_| server.connect()).collect();
    let mut bytewise: Vec<Client> = rows.iter().map(|_| server.connect()).collect();
    // all connections advance by one byte per round, so the rounds' pauses are paid once
    let longest = rows.iter().map(|row| row.2.len()).max().unwrap_or(0);
    for at in 0..longest {
        for (client, row) in bytewise.iter_mut().zip(&rows) {
            if let Some(byte) = row.2.get(at..=at) {
                // it may have been refused already
                let _ = client.try_send(byte);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    let mut failures = Vec::new();
    for ((whole, bytewise), row) in whole.iter_mut().zip(&mut bytewise).zip(&rows) {
        whole.send(&row.2);
        let status =
            |answer: Result<Response, ReadError>| answer.map(|r| r.status).map_err(|e| e.to_string());
        let (expected, got) = (status(whole.try_response()), status(bytewise.try_response()));
        if expected != got || got.is_err() {
            failures.push(format!("{}, {}: {expected:?} whole, {got:?} byte by byte", row.0, row.1));
        }
    }
    assert!(failures.is_empty(), "{} rows fail:\n{failures:#?}", failures.len());
}

#[test]
fn what_is_odd_but_right_is_served() {
    let server = ServerProcess::start(["demo"]);
    let rows: &[(&str, &str, &str)] = &[
        ("9112 2.2", "an empty line before the request", "\r\nGET /echo HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("9110 2.5", "a later minor version", "GET /echo HTTP/1.2\r\nHost: test\r\n\r\n"),
        ("9112 3.2", "HTTP/1.0 without Host", "GET /echo HTTP/1.0\r\n\r\n"),
        ("9112 3.2", "Host with a port", "GET /echo HTTP/1.1\r\nHost: test:8000\r\n\r\n"),
        ("9112 3.2", "Host as an IPv6 address", "GET /echo HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"),
        (
            "9112 3.2.1",
            "a query with all its characters",
            "GET /echo?a=b&c=/?:@!$'()*+,;~%20 HTTP/1.1\r\nHost: test\r\n\r\n",
        ),
        ("9112 3.2.2", "absolute form", "GET http://test/echo HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("9112 5", "names in any case", "GET /echo HTTP/1.1\r\nhOST: test\r\n\r\n"),
        ("9112 5.1", "no space behind the colon", "GET /echo HTTP/1.1\r\nHost:test\r\n\r\n"),
        ("9112 5.1", "white space around the value", "GET /echo HTTP/1.1\r\nHost: \t test \t\r\n\r\n"),
        ("9110 5.5", "a tab inside a value", "GET /echo HTTP/1.1\r\nHost: test\r\nX: a\tb\r\n\r\n"),
        (
            "9110 5.6.2",
            "every character of a token",
            "GET /echo HTTP/1.1\r\nHost: test\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
        ),
        (
            "9112 6.1",
            "chunked in any case",
            "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        ),
        (
            "9112 6.3",
            "length with leading zeros",
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 0003\r\n\r\nabc",
        ),
        (
            "9112 7.1",
            "sizes with leading zeros",
            "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n00003\r\nabc\r\n000\r\n\r\n",
        ),
        (
            "9112 7.1.1",
            "extensions",
            "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3;a;b=c;d=\"e f\"\r\nabc\r\n0;last\r\n\r\n",
        ),
        (
            "9112 7.1.2",
            "trailers",
            "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: 1\r\nB: 2\r\n\r\n",
        ),
    ];
    for (section, what, bytes) in rows {
        let response = server.answer_to(bytes);
        assert_eq!(response.status, 200, "{section}, {what}: {:?}", String::from_utf8_lossy(&response.body));
        assert!(response.from_app(), "{section}, {what}");
    }
}

#[test]
fn bytes_above_127_in_a_value_are_let_through() {
    // RFC 9110 section 5.5: obs-text
    let server = ServerProcess::start(["demo"]);
    let response = server.answer_to(b"GET /plaintext HTTP/1.1\r\nHost: test\r\nX: \xe4\xff\r\n\r\n");
    assert_eq!(response.status, 200);
}

#[test]
fn options_asterisk_reaches_the_application() {
    // RFC 9112 section 3.2.4
    let server = ServerProcess::start(["demo"]);
    let response = server.answer_to("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(response.from_app());
    assert_eq!(response.json()["target"], "*");
}

#[test]
fn tls_on_a_plain_port_ends_at_once() {
    let server = ServerProcess::start(["demo", "--header-timeout", "60"]);
    let mut client = server.connect();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    match client.try_response() {
        Ok(response) => assert_eq!(response.status, 400),
        Err(ReadError::Closed) => return,
        Err(error) => panic!("{error}"),
    }
    client.expect_close();
}

#[test]
fn a_head_that_never_ends_by_an_empty_line_is_never_served() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-"]);
    for part in
        ["G", "GET /never HTTP/1.1", "GET /never HTTP/1.1\r\n", "GET /never HTTP/1.1\r\nHost: test\r\n"]
    {
        let mut client = server.connect();
        client.send(part);
        client.finish_sending();
        match client.try_response() {
            Ok(response) => assert!(response.status == 400 && !response.from_app(), "{part:?}"),
            Err(ReadError::Closed) => continue,
            Err(error) => panic!("{part:?}: {error}"),
        }
        client.expect_close();
    }
}
