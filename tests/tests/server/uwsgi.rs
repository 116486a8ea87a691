//! `--protocol uwsgi`: packets as a front server sends them, byte for byte. `tests/nginx.rs` has a real one in front.

use std::thread;
use std::time::Duration;

use greenserve_tests::{
    Binary, Client, Framing, PATIENCE, ReadError, Response, Scratch, ServerProcess, eventually, request,
    uwsgi,
};

const PLAIN: [&str; 3] = ["demo", "--protocol", "uwsgi"];

/// Runs a test with either kind of worker.
fn both(args: &[&str], test: impl Fn(&ServerProcess)) {
    for kind in ["green", "threads"] {
        test(&ServerProcess::start([&PLAIN[..], &["-k", kind], args].concat()));
    }
}

/// What nginx sends by its file `uwsgi_params`, for a request without a body, and these variables besides.
fn vars<'a>(method: &'a str, uri: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut vars = vec![
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", method),
        ("CONTENT_TYPE", ""),
        ("REQUEST_URI", uri),
        ("PATH_INFO", path),
        ("DOCUMENT_ROOT", "/srv"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "front"),
        ("HTTP_HOST", "example.org"),
    ];
    vars.extend_from_slice(more);
    vars
}

fn packet(method: &str, uri: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { body.len().to_string() };
    uwsgi(&[&vars(method, uri, more)[..], &[("CONTENT_LENGTH", &length)]].concat(), body)
}

/// The answer to `bytes`, after which the connection must end.
#[track_caller]
fn answer(server: &ServerProcess, bytes: &[u8], method: &str) -> Response {
    let mut client = server.connect();
    client.send(bytes);
    let response = client.response_to(method);
    assert!(response.says_close());
    client.expect_close();
    response
}

#[track_caller]
fn get(server: &ServerProcess, uri: &str) -> Response {
    answer(server, &packet("GET", uri, &[], b""), "GET")
}

#[test]
fn a_request_is_to_the_application_what_it_is_over_http() {
    both(&[], |server| {
        let more =
            [("PATH_INFO", "/echo/ä"), ("HTTP_X_A", "1"), ("HTTP_X_A", "2"), ("CONTENT_TYPE", "text/plain")];
        let response = answer(server, &packet("POST", "/echo/%C3%A4?a=%20b", &more, b"hello"), "POST");
        let echo: serde_json::Value = serde_json::from_str(response.text()).unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(echo["method"], "POST");
        assert_eq!(echo["target"], "/echo/%C3%A4?a=%20b");
        assert_eq!(echo["path"], "/echo/ä");
        assert_eq!(echo["version"], "HTTP/1.1");
        assert_eq!(echo["authority"], "example.org");
        assert_eq!(echo["body"], "aGVsbG8=");
        let headers = serde_json::json!([
            ["host", "example.org"],
            ["content-type", "text/plain"],
            ["content-length", "5"],
            ["x-a", "1"],
            ["x-a", "2"],
        ]);
        assert_eq!(echo["headers"], headers);
    });
}

#[test]
fn the_application_sees_the_variables_and_the_client() {
    both(&["--access-logfile", "-"], |server| {
        let response = answer(server, &packet("GET", "/vars", &[("MINE", "ä b")], b""), "GET");
        let seen: serde_json::Value = serde_json::from_str(response.text()).unwrap();
        for pair in
            [["MINE", "ä b"], ["DOCUMENT_ROOT", "/srv"], ["REMOTE_PORT", "4711"], ["CONTENT_LENGTH", ""]]
        {
            assert!(seen.as_array().unwrap().contains(&serde_json::json!(pair)), "{pair:?} in {seen}");
        }
        let who: serde_json::Value = serde_json::from_str(get(server, "/whoami").text()).unwrap();
        assert_eq!(who["peer"], "192.0.2.7:4711");
        let line = server.wait_for_output("/whoami");
        assert!(line.starts_with("192.0.2.7 "), "{line}");
        assert!(line.contains("\"GET /whoami HTTP/1.1\" 200"), "{line}");
        let refused = answer(server, &packet("GET", "/odd", &[("HTTP_EXPECT", "miracles")], b""), "GET");
        assert_eq!(refused.status, 417);
        let line = server.wait_for_output("/odd");
        assert!(line.starts_with("192.0.2.7 "), "{line}");
    });
    let http = ServerProcess::start(["demo"]);
    assert_eq!(http.get("/vars").text(), "null\n");
}

/// What `/environ` tells of a request with these variables, in which the client claims to be somebody else.
fn environ(server: &ServerProcess, more: &[(&str, &str)]) -> serde_json::Value {
    let claims = [
        ("HTTP_X_FORWARDED_FOR", "198.51.100.1"),
        ("HTTP_X_FORWARDED_PROTO", "https"),
        ("HTTP_FORWARDED", "for=198.51.100.1;proto=https;host=evil"),
    ];
    answer(server, &packet("GET", "/environ", &[&claims, more].concat(), b""), "GET").json()
}

#[test]
fn what_a_client_claims_is_believed_of_its_own_address_and_never_of_the_front_servers() {
    both(&[], |server| {
        for (more, believed) in [
            (&[][..], false),
            (&[("REMOTE_ADDR", "127.0.0.1")], true),
            (&[("REMOTE_ADDR", "")], false),
            (&[("REMOTE_ADDR", "unix:")], false),
            (&[("REMOTE_ADDR", "127.0.0.1, 192.0.2.7")], false),
        ] {
            let seen = environ(server, more);
            assert_eq!(seen["scheme"] == "https", believed, "{more:?}: {seen}");
            assert_eq!(seen["client"] == "198.51.100.1", believed, "{more:?}: {seen}");
            assert_eq!(seen["host"] == "evil", believed, "{more:?}: {seen}");
            assert_ne!(
                believed,
                seen["client"].is_null() || seen["client"] == "192.0.2.7",
                "{more:?}: {seen}"
            );
        }
    });
    let scratch = Scratch::new();
    let path = scratch.join("uwsgi.sock");
    let bind = format!("unix:{}", path.display());
    let _server = ServerProcess::builder().args(PLAIN).bind(bind).start();
    let mut client = Client::unix(&path);
    let claims = [("REMOTE_ADDR", ""), ("HTTP_X_FORWARDED_FOR", "198.51.100.1")];
    client.send(packet("GET", "/environ", &claims, b""));
    let seen = client.response().json();
    assert!(seen["client"].is_null() && seen["peer"].is_null(), "{seen}");
}

#[test]
fn the_applications_view_is_made_of_the_front_servers_variables() {
    both(&[], |server| {
        let more =
            [("HTTPS", "on"), ("REMOTE_USER", "ann"), ("SCRIPT_NAME", "/environ"), ("SERVER_PORT", "")];
        let seen = environ(server, &more);
        assert_eq!(seen["scheme"], "https");
        for (name, value) in [
            ("wsgi.url_scheme", "https"),
            ("REMOTE_USER", "ann"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("DOCUMENT_ROOT", "/srv"),
            ("SERVER_NAME", "front"),
            ("SCRIPT_NAME", "/environ"),
            ("PATH_INFO", ""),
            ("HTTP_X_FORWARDED_PROTO", "https"),
        ] {
            assert_eq!(seen["environ"][name], value, "{name}");
        }
        assert_eq!(seen["environ"]["SERVER_PORT"], server.addr().port().to_string());
        let wrong = answer(server, &packet("GET", "/environ", &[("SCRIPT_NAME", "/env")], b""), "GET");
        assert_eq!(wrong.status, 500);
        server.wait_for_log("SCRIPT_NAME");
    });
}

#[test]
fn the_version_of_the_front_connection_is_the_front_servers_business() {
    both(&[], |server| {
        for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/1.0", "HTTP/1.1"] {
            let mut vars = vars("GET", "/no-length", &[]);
            vars.retain(|(name, _)| *name != "HTTP_HOST");
            vars.push(("SERVER_PROTOCOL", version));
            let response = answer(server, &uwsgi(&vars, b""), "GET");
            assert_eq!((response.status, response.framing), (200, Framing::Close), "{version}");
            let echo = [&vars[..], &[("REQUEST_URI", "/echo"), ("PATH_INFO", "/echo")]].concat();
            let echo = answer(server, &uwsgi(&echo, b""), "GET");
            assert!(echo.text().contains(r#""authority":"front:80""#), "{}", echo.text());
        }
    });
}

#[test]
fn a_body_of_unknown_length_ends_with_the_connection_and_is_never_chunked() {
    both(&[], |server| {
        let response = get(server, "/stream?n=100&size=1000");
        assert_eq!((response.framing, response.body.len()), (Framing::Close, 100_000));
        assert_eq!(response.header("transfer-encoding"), None);
        let sized = get(server, "/fixed?n=1000000");
        assert_eq!((sized.framing, sized.body.len()), (Framing::Length(1_000_000), 1_000_000));
    });
}

#[test]
fn a_stream_is_seen_as_it_is_flushed() {
    both(&[], |server| {
        let mut client = server.connect();
        client.send(packet("GET", "/stream?n=2&size=3&delay_ms=60000", &[], b""));
        let head = client.read_head("GET").unwrap();
        assert_eq!((head.status, head.framing), (200, Framing::Close));
        client.set_patience(Duration::from_millis(1));
        assert!(matches!(client.read_rest(), Err(ReadError::TimedOut)), "it goes on");
    });
}

#[test]
fn answers_without_a_body_have_none() {
    both(&[], |server| {
        let head = answer(server, &packet("HEAD", "/fixed?n=1000", &[], b""), "HEAD");
        assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
        for status in [204, 304] {
            let response = get(server, &format!("/status/{status}"));
            assert_eq!((response.status, response.body.len()), (status, 0));
        }
    });
}

#[test]
fn however_a_packet_is_cut_its_answer_is_the_same() {
    both(&[], |server| {
        let bytes = packet("POST", "/upload", &[("HTTP_X_A", "1")], b"hello");
        let whole = answer(server, &bytes, "POST");
        assert_eq!(whole.status, 200);
        for cut in 1..bytes.len() {
            let mut client = server.connect();
            client.send(&bytes[..cut]);
            thread::yield_now();
            client.send(&bytes[cut..]);
            assert_eq!(client.response().body, whole.body, "cut at {cut}");
        }
        let mut client = server.connect();
        assert!(client.send_slowly(&bytes, 1, Duration::from_micros(100)));
        assert_eq!(client.response().body, whole.body);
        client.expect_close();
    });
}

#[test]
fn what_is_no_request_is_refused() {
    both(&["--limit-request-fields", "5", "--limit-request-body", "10"], |server| {
        let with = |more: &[(&str, &str)]| uwsgi(&vars("GET", "/", more), b"");
        let many: Vec<_> = (0..6).map(|_| ("HTTP_X", "")).collect();
        let long = format!("/{}", "x".repeat(5000));
        let rows: &[(&str, Vec<u8>, u16)] = &[
            ("HTTP", request("GET", "/", &[], b""), 400),
            ("TLS", b"\x16\x03\x01\x02\x00".to_vec(), 400),
            ("another modifier", b"\x05\0\0\0".to_vec(), 400),
            ("no variables", uwsgi(&[], b""), 400),
            ("a length beyond the end", b"\0\x06\0\0\x01\0a\xff\xffb".to_vec(), 400),
            ("an empty name", uwsgi(&[("", "x")], b""), 400),
            ("a second field in a value", with(&[("HTTP_X", "a\r\nX-Evil: b")]), 400),
            (
                "a second request in the target",
                with(&[("REQUEST_METHOD", "GET /x HTTP/1.1\r\n\r\nGET")]),
                400,
            ),
            ("a wrong host", with(&[("HTTP_HOST", "a/b")]), 400),
            ("a length that is none", with(&[("CONTENT_LENGTH", "0x5")]), 400),
            ("a wrong version", with(&[("SERVER_PROTOCOL", "x")]), 400),
            ("a chunked body without its length", with(&[("HTTP_TRANSFER_ENCODING", "chunked")]), 411),
            ("too large a body", with(&[("CONTENT_LENGTH", "11")]), 413),
            ("too long a target", uwsgi(&vars("GET", &long, &[]), b""), 414),
            ("an odd expectation", with(&[("HTTP_EXPECT", "miracles")]), 417),
            ("too many fields", with(&many), 431),
            ("too long a field", with(&[("HTTP_X", &"x".repeat(9000))]), 431),
        ];
        for (what, bytes, status) in rows {
            let mut client = server.connect();
            // it may be refused before all of it has come
            let _ = client.try_send(bytes);
            let response = client.response();
            assert_eq!(response.status, *status, "{what}: {}", response.text());
            assert!(!response.from_app() && response.says_close(), "{what}");
            client.expect_close();
        }
        assert_eq!(get(server, "/plaintext").text(), "Hello, World!");
    });
}

#[test]
fn a_server_of_http_does_not_take_packets() {
    let server = ServerProcess::start(["demo"]);
    let mut client = server.connect();
    client.send(packet("GET", "/plaintext", &[], b""));
    assert_eq!(client.response().status, 400);
}

#[test]
fn who_is_not_allowed_is_told_so_before_anything_is_read() {
    for kind in ["green", "threads"] {
        let scratch = Scratch::new();
        let path = scratch.join("app.sock");
        let server = ServerProcess::builder()
            .args(PLAIN)
            .args(["-k", kind, "--uwsgi-allow-from", "192.0.2.0/24,::2"])
            .bind("127.0.0.1:0")
            .bind(format!("unix:{}", path.display()))
            .start();
        let mut client = server.connect();
        let response = client.response();
        assert_eq!((response.status, response.from_app()), (403, false));
        let refused = answer(&server, &packet("GET", "/plaintext", &[], b""), "GET");
        assert_eq!(refused.status, 403);
        // who can open a unix socket may use it
        let mut client = Client::unix(&path);
        client.send(packet("GET", "/plaintext", &[], b""));
        assert_eq!(client.response().text(), "Hello, World!");
    }
    both(&["--uwsgi-allow-from", "*"], |server| assert_eq!(get(server, "/plaintext").status, 200));
}

#[test]
fn nobody_is_told_to_continue() {
    both(&[], |server| {
        let mut client = server.connect();
        let bytes = packet("POST", "/upload", &[("HTTP_EXPECT", "100-continue")], b"hello");
        client.send(&bytes[..bytes.len() - 5]);
        client.expect_silence(Duration::from_millis(200));
        client.send(b"hello");
        let response = client.response();
        assert_eq!(response.status, 200, "and not 100");
    });
}

#[test]
fn one_connection_serves_one_request() {
    both(&[], |server| {
        let bytes = packet("GET", "/plaintext", &[("HTTP_CONNECTION", "keep-alive")], b"");
        let mut client = server.connect();
        client.send([&bytes[..], &bytes].concat());
        assert_eq!(client.response().text(), "Hello, World!");
        client.expect_close();
    });
}

#[test]
fn a_body_that_stops_short_is_an_error() {
    both(&["--body-timeout", "1"], |server| {
        for leave in [true, false] {
            let mut client = server.connect();
            let bytes = packet("POST", "/upload", &[], b"hello");
            client.send(&bytes[..bytes.len() - 2]);
            if leave {
                client.finish_sending();
            }
            assert_eq!(client.response().status, if leave { 400 } else { 408 });
        }
    });
}

#[test]
fn a_packet_that_does_not_come_ends_at_the_header_timeout() {
    both(&["--header-timeout", "0.5"], |server| {
        let bytes = packet("GET", "/plaintext", &[], b"");
        let mut client = server.connect();
        client.send(&bytes[..bytes.len() - 1]);
        assert_eq!(client.response().status, 408);
        let mut client = server.connect();
        client.send(&bytes[..3]);
        client.finish_sending();
        assert_eq!(client.response().status, 400);
        server.connect().expect_gone();
    });
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    both(&[], |server| {
        for uri in ["/panic-mid", "/bad-length?declared=10&actual=5"] {
            let mut client = server.connect();
            client.send(packet("GET", uri, &[], b""));
            let broken = client.try_response();
            assert!(
                matches!(broken, Err(ReadError::Truncated(_) | ReadError::Failed(_))),
                "{uri}: {broken:?}"
            );
        }
        let response = get(server, "/panic");
        assert_eq!((response.status, response.from_app()), (500, false));
    });
}

#[test]
fn a_request_under_way_outlives_a_graceful_stop() {
    for kind in ["green", "threads"] {
        let mut server = ServerProcess::start([&PLAIN[..], &["-k", kind, "--access-logfile", "-"]].concat());
        let mut client = server.connect();
        client.send(packet("GET", "/stream?n=2&size=3&delay_ms=300", &[], b""));
        assert_eq!(client.read_head("GET").unwrap().status, 200);
        server.signal(libc::SIGTERM);
        assert_eq!(client.read_rest().unwrap(), b"aaabbb");
        assert!(server.wait_exit().success());
    }
}

#[test]
fn who_leaves_early_leaves_nothing_behind() {
    both(&[], |server| {
        assert_eq!(get(server, "/plaintext").status, 200);
        let before = server.proc().open_files();
        for _ in 0..20 {
            let mut client = server.connect();
            client.send(packet("GET", "/stream?n=100000&size=1000", &[], b""));
            client.read_head("GET").unwrap();
            client.reset();
            let mut client = server.connect();
            client.send(&packet("POST", "/upload", &[], b"hello")[..40]);
            client.reset();
        }
        eventually(PATIENCE, || server.proc().open_files() <= before);
        assert_eq!(get(server, "/plaintext").status, 200);
    });
}

#[test]
fn a_file_is_sent_as_it_is() {
    let scratch = Scratch::new();
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    scratch.write("a.bin", &content);
    let app = format!("static:{}", scratch.path().display());
    for kind in ["green", "threads"] {
        let server = ServerProcess::start([app.as_str(), "--protocol", "uwsgi", "-k", kind]);
        let whole = get(&server, "/a.bin");
        assert_eq!((whole.status, whole.body == content), (200, true));
        let etag = whole.header("etag").unwrap();
        let same = answer(&server, &packet("GET", "/a.bin", &[("HTTP_IF_NONE_MATCH", etag)], b""), "GET");
        assert_eq!((same.status, same.body.len()), (304, 0));
        let part = answer(&server, &packet("GET", "/a.bin", &[("HTTP_RANGE", "bytes=10-19")], b""), "GET");
        assert_eq!((part.status, &part.body[..]), (206, &content[10..20]));
    }
}

#[test]
fn the_log_names_the_protocol_and_wrong_settings_are_told() {
    let server = ServerProcess::start(PLAIN);
    assert!(server.listening()[0].starts_with("uwsgi://127.0.0.1:"), "{:?}", server.listening());
    for (args, hint) in
        [(["--protocol", "fastcgi"], "http or uwsgi"), (["--uwsgi-allow-from", "localhost"], "10.0.0.0/8")]
    {
        let output = Binary::run(&[&["demo", "--check-config"], &args[..]].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(hint), "{message}");
    }
}
