//! The demo application: each route does what the page at `/` promises.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use greenserve_tests::{Framing, ServerProcess, request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The `headers` of an echo, names in lower case: their case is not part of the promise, their order is.
fn headers_of(echo: &Value) -> Vec<(String, String)> {
    let pairs = echo["headers"].as_array().expect("a list of headers");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    pairs.iter().map(|pair| (text(&pair[0]).to_lowercase(), text(&pair[1]))).collect()
}

fn body_of(echo: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(echo["body"].as_str().expect("a body")).expect("base64")
}

#[test]
fn the_demo_is_what_runs_when_no_application_is_named() {
    let server = ServerProcess::start([]);
    let response = server.get("/plaintext");
    assert_eq!((response.status, response.text()), (200, "Hello, World!"));
}

#[test]
fn the_index_lists_every_route() {
    let index = ServerProcess::start(["demo"]).get("/");
    assert_eq!(index.status, 200);
    let routes = [
        "/echo",
        "/stream",
        "/fixed",
        "/no-length",
        "/bad-length",
        "/status/",
        "/sleep",
        "/block",
        "/burn",
        "/upload",
        "/ignore-body",
        "/panic",
        "/panic-mid",
        "/leak",
        "/overflow",
        "/bad-header",
        "/whoami",
        "/environ",
        "/plaintext",
    ];
    for route in routes {
        assert!(index.text().contains(route), "{route} is missing in {}", index.text());
    }
}

#[test]
fn plaintext_is_thirteen_bytes_of_text() {
    let response = ServerProcess::start(["demo"]).get("/plaintext");
    assert_eq!(response.text(), "Hello, World!");
    assert_eq!(response.framing, Framing::Length(13));
    assert!(response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
}

#[test]
fn echo_shows_what_the_application_saw() {
    let server = ServerProcess::start(["demo"]);
    let headers = ["X-First: 1", "X-Dup: a", "x-other:  padded \t", "X-DUP: b", "X-Empty:"];
    let response = server.answer_to(request("POST", "/echo/a%20b%2Fc?x=1&y=%26", &headers, b"\x00\xffbody"));
    assert_eq!(response.status, 200);
    let echo = response.json();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["target"], "/echo/a%20b%2Fc?x=1&y=%26");
    assert_eq!(echo["path"], "/echo/a b/c");
    assert_eq!(echo["query"], "x=1&y=%26");
    assert_eq!(echo["version"], "HTTP/1.1");
    assert_eq!(echo["authority"], "test");
    assert_eq!(body_of(&echo), b"\x00\xffbody");
    let expected = [
        ("host", "test"),
        ("x-first", "1"),
        ("x-dup", "a"),
        ("x-other", "padded"),
        ("x-dup", "b"),
        ("x-empty", ""),
        ("content-length", "6"),
    ];
    assert_eq!(headers_of(&echo), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn echo_takes_any_method() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"] {
        client.send(request(method, "/echo", &[], b""));
        let response = client.response();
        assert_eq!((response.status, response.json()["method"].clone()), (200, json!(method)));
    }
}

#[test]
fn echo_of_a_chunked_body_is_the_body_without_its_coding() {
    let server = ServerProcess::start(["demo"]);
    let response = server.answer_to(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!(body_of(&response.json()), b"abcde");
}

#[test]
fn the_authority_is_that_of_an_absolute_target_and_else_that_of_host() {
    let server = ServerProcess::start(["demo"]);
    let rows = [
        ("GET /echo HTTP/1.1\r\nHost: a.example:81\r\n\r\n", "a.example:81"),
        ("GET http://b.example/echo?q HTTP/1.1\r\nHost: b.example\r\n\r\n", "b.example"),
    ];
    for (bytes, authority) in rows {
        let echo = server.answer_to(bytes).json();
        assert_eq!(echo["authority"], authority, "{bytes:?}");
        assert_eq!(echo["path"], "/echo");
    }
}

#[test]
fn an_unknown_path_is_echoed_with_404() {
    let server = ServerProcess::start(["demo"]);
    let response = server.answer_to(request("PUT", "/no/such/route?a=b", &[], b"data"));
    assert_eq!(response.status, 404);
    assert!(response.from_app());
    let echo = response.json();
    assert_eq!((echo["method"].as_str(), echo["path"].as_str()), (Some("PUT"), Some("/no/such/route")));
    assert_eq!(body_of(&echo), b"data");
}

#[test]
fn fixed_sends_the_bytes_it_is_asked_for_with_their_length() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for n in [0, 1, 4096, 65_536, 3_000_000] {
        let response = client.get(&format!("/fixed?n={n}"));
        assert_eq!((response.status, response.framing, response.body.len()), (200, Framing::Length(n), n));
    }
}

#[test]
fn a_short_body_of_undeclared_length_still_has_an_end() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    let response = client.get("/no-length");
    assert_eq!(response.status, 200);
    assert!(!response.body.is_empty());
    if response.framing == Framing::Close {
        client.expect_close();
    } else {
        assert_eq!(client.get("/plaintext").status, 200, "the connection is in step");
    }
}

#[test]
fn status_answers_with_the_status_asked_for() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    for status in [200, 201, 202, 301, 400, 401, 404, 405, 418, 429, 500, 503, 599] {
        let response = client.get(&format!("/status/{status}"));
        assert_eq!(response.status, status);
        assert!(response.from_app());
    }
}

#[test]
fn statuses_without_content_have_neither_body_nor_length() {
    let server = ServerProcess::start(["demo"]);
    for status in [204, 205, 304] {
        let mut client = server.connect();
        let response = client.get(&format!("/status/{status}"));
        assert_eq!(response.status, status);
        assert!(response.from_app());
        assert_eq!((response.header("content-length"), response.header("transfer-encoding")), (None, None));
        assert!(response.body.is_empty());
        if response.framing == Framing::None && !response.says_close() {
            assert_eq!(client.get("/plaintext").text(), "Hello, World!", "in step after a {status}");
        }
    }
}

#[test]
fn a_status_that_is_no_final_status_is_refused() {
    let server = ServerProcess::start(["demo"]);
    for wrong in ["0", "99", "100", "101", "1000", "-1", "abc", "", "20"] {
        let response = server.get(&format!("/status/{wrong}"));
        assert_eq!(response.status / 100, 4, "/status/{wrong} answers {}", response.status);
    }
}

#[test]
fn a_number_that_is_none_is_the_clients_mistake() {
    let server = ServerProcess::start(["demo"]);
    for target in
        ["/sleep?ms=soon", "/fixed?n=-1", "/stream?n=x", "/burn?ms=1e999", "/fixed?n=99999999999999999999999"]
    {
        let response = server.get(target);
        assert_eq!(response.status, 400, "{target}");
        assert!(response.from_app(), "{target}: the application checks its own parameters");
    }
}

#[test]
fn sleepers_wait_side_by_side_and_block_holds_up_all() {
    let server = ServerProcess::start(["demo"]);
    let mut slow = server.connect();
    slow.send(request("GET", "/sleep?ms=60000", &[], b""));
    assert_eq!(server.get("/sleep?ms=1").status, 200, "a sleeper does not keep others from sleeping less");
    assert_eq!(server.get("/burn?ms=5").status, 200);
    assert_eq!(server.get("/block?ms=5").status, 200);
    slow.expect_silence(std::time::Duration::from_millis(1));
}

#[test]
fn upload_names_digest_and_length_of_what_it_read() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    let large: Vec<u8> = (0..2_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
    for body in [&b""[..], b"a", b"hello world", &large] {
        let answer = client.post("/upload", body).json();
        let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer, json!({ "sha256": digest, "length": body.len() }));
    }
}

#[test]
fn whoami_tells_both_addresses_the_greenlet_and_the_process() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    let response = client.get("/whoami");
    assert_eq!(response.status, 200);
    let text = response.text();
    for part in [client.local_addr().to_string(), server.addr().to_string(), server.pid().to_string()] {
        assert!(text.contains(&part), "{part} is missing in {text}");
    }
}

#[test]
fn only_what_the_application_makes_carries_its_mark() {
    let server = ServerProcess::start(["demo"]);
    let marked = [
        "/",
        "/echo",
        "/plaintext",
        "/whoami",
        "/fixed?n=3",
        "/stream?n=1&size=1",
        "/status/404",
        "/nowhere",
    ];
    for target in marked {
        assert!(server.get(target).from_app(), "{target} is an answer of the application");
    }
    let unmarked = [
        request("GET", "/panic", &[], b""),
        request("GET", "relative", &[], b""),
        request("GET", "/echo", &["Expect: miracles"], b""),
        request("GET", "/echo", &["Transfer-Encoding: gzip"], b""),
        request("GET", &format!("/{}", "x".repeat(10_000)), &[], b""),
        request(
            "GET",
            "/echo",
            &["X-Large: ".to_owned() + &"x".repeat(20_000)].each_ref().map(String::as_str),
            b"",
        ),
        request("GET", "/echo", &["no colon"], b""),
        b"GET /echo HTTP/3.0\r\nHost: test\r\n\r\n".to_vec(),
    ];
    for bytes in unmarked {
        let response = server.answer_to(&bytes);
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(response.status >= 400, "{start}");
        assert!(!response.from_app(), "the {} to {start} is an answer of the server", response.status);
    }
}
