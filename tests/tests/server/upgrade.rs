//! What is no request and response: the demo's upgrade, WebSocket, events and live page, through the binary.

use greenserve_tests::{Client, PATIENCE, Scratch, ServerProcess, eventually, request};

const ECHO: &[&str] = &["Connection: Upgrade", "Upgrade: echo"];
const WEBSOCKET: &[&str] = &[
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn switched(server: &ServerProcess, target: &str, headers: &[&str]) -> Client {
    let mut client = server.connect();
    client.send(request("GET", target, headers, b""));
    let head = client.read_head("GET").expect("a head");
    assert_eq!(head.status, 101);
    assert!(head.from_app());
    client
}

#[test]
fn the_demo_upgrades_to_echo_and_is_done_when_the_client_is() {
    for kind in ["green", "threads"] {
        let server = ServerProcess::start(["demo", "-k", kind, "--request-timeout", "1"]);
        let mut client = switched(&server, "/upgrade", ECHO);
        client.send(b"any bytes\r\n\r\n");
        client.finish_sending();
        assert_eq!(client.read_rest().expect("an end"), b"any bytes\r\n\r\n");
        let refused = server.get("/upgrade");
        assert_eq!(refused.status, 426, "{kind}");
        assert_eq!(refused.header("upgrade"), Some("echo"), "{kind}");
    }
}

#[test]
fn a_websocket_is_said_goodbye_to_when_the_server_is_told_to_stop() {
    for kind in ["green", "threads"] {
        let mut server = ServerProcess::start(["demo", "-k", kind, "--graceful-timeout", "600"]);
        let mut client = switched(&server, "/ws", WEBSOCKET);
        let mut idle = switched(&server, "/upgrade", ECHO);
        server.signal(libc::SIGTERM);
        // "hi", masked with zeros, crosses the server's close frame or is answered before it.
        client.send(b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe9");
        let rest = client.read_rest().expect("a regular end");
        let goodbye = b"\x88\x12\x03\xe9the server stops";
        assert!(rest.ends_with(goodbye) || rest.ends_with(b"\x88\x02\x03\xe9"), "{kind}: {rest:?}");
        idle.expect_close();
        assert!(server.wait_exit().success(), "{kind}: {}", server.log());
    }
}

#[test]
fn the_access_log_has_one_line_for_the_whole_of_it() {
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let server = ServerProcess::start([
        "demo",
        "--access-logfile",
        log.to_str().expect("a path"),
        "--access-logformat",
        "%(r)s %(s)s %(B)s",
    ]);
    let mut client = switched(&server, "/upgrade", ECHO);
    client.send(b"12345");
    client.finish_sending();
    assert_eq!(client.read_rest().expect("an end"), b"12345");
    eventually(PATIENCE, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log == "GET /upgrade HTTP/1.1 101 5\n")
    });
}

#[test]
fn events_go_on_from_the_last_that_was_seen() {
    for kind in ["green", "threads"] {
        let server = ServerProcess::start(["demo", "-k", kind]);
        let mut client = server.connect();
        client.send(request("GET", "/events?n=2&delay_ms=1", &["Last-Event-ID: 7"], b""));
        let response = client.response();
        assert_eq!(response.header("content-type"), Some("text/event-stream"), "{kind}");
        let events = "event: count\nid: 8\ndata: event 8\ndata: of 9\n\n\
                      event: count\nid: 9\ndata: event 9\ndata: of 9\n\n";
        assert_eq!(response.text(), events, "{kind}");
        assert!(client.get("/live").text().contains("new EventSource"), "{kind}");
    }
}
