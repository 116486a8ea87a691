//! Clients that leave at the worst moment. Whatever they do, nothing of theirs stays behind and others are served.

use std::thread;
use std::time::Duration;

use greenserve_tests::{PATIENCE, ServerProcess, eventually, request};

/// Lets `rude` do its worst a number of times, then checks that no descriptor is left and the server serves.
#[track_caller]
fn survives(args: &[&str], rude: impl Fn(&ServerProcess)) {
    let server = ServerProcess::start([&["demo", "--access-logfile", "/dev/null"], args].concat());
    for _ in 0..3 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
    let idle = settled_files(&server);
    for _ in 0..30 {
        rude(&server);
    }
    eventually(PATIENCE, || server.proc().open_files() <= idle);
    assert_eq!(server.get("/plaintext").status, 200);
    assert!(!server.log().to_lowercase().contains("panic"), "{}", server.log());
}

/// The number of descriptors once the connections made so far are gone.
fn settled_files(server: &ServerProcess) -> usize {
    // It listens before it has opened all that it needs to accept.
    assert_eq!(server.get("/plaintext").status, 200);
    let mut last = usize::MAX;
    eventually(PATIENCE, || {
        let now = server.proc().open_files();
        thread::sleep(Duration::from_millis(30));
        std::mem::replace(&mut last, now) == now
    });
    last
}

#[test]
fn leaving_before_the_first_byte() {
    survives(&[], |server| drop(server.connect()));
    survives(&[], |server| server.connect().reset());
}

#[test]
fn leaving_inside_the_head() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.send("GET /plaintext HTTP/1.1\r\nHost: te");
        client.reset();
    });
}

#[test]
fn leaving_inside_the_body() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        survives(&[], |server| {
            let mut client = server.connect();
            client.send(request("POST", "/upload", &[head], b""));
            client.send("5\r\nhel");
            client.reset();
        });
    }
}

#[test]
fn leaving_before_the_answer() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.send(request("GET", "/sleep?ms=100", &[], b""));
        client.reset();
    });
}

#[test]
fn leaving_while_pipelined_requests_wait() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.send(
            [
                request("GET", "/sleep?ms=20", &[], b""),
                request("GET", "/fixed?n=500000", &[], b"").repeat(10),
            ]
            .concat(),
        );
        client.reset();
    });
}

#[test]
fn leaving_in_the_middle_of_a_stream() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.shrink_receive_buffer();
        client.send(request("GET", "/stream?n=1000000&size=10000", &[], b""));
        client.read_head("GET").expect("a head");
        client.read_chunk();
        client.reset();
    });
}

#[test]
fn leaving_in_the_middle_of_a_large_answer() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.shrink_receive_buffer();
        client.send(request("GET", "/fixed?n=20000000", &[], b""));
        client.read_head("GET").expect("a head");
        drop(client);
    });
}

#[test]
fn leaving_while_the_server_waits_for_the_body_it_asked_for() {
    survives(&[], |server| {
        let mut client = server.connect();
        client.send(request("POST", "/upload", &["Expect: 100-continue", "Content-Length: 5"], b""));
        assert_eq!(client.response().status, 100);
        client.reset();
    });
}

#[test]
fn leaving_with_threads_in_place_of_green_threads() {
    survives(&["-k", "threads"], |server| {
        let mut client = server.connect();
        client.send(request("GET", "/stream?n=1000&size=100000", &[], b""));
        client.read_head("GET").expect("a head");
        client.reset();
    });
}

#[test]
fn a_request_whose_client_leaves_is_cancelled_if_that_is_asked_for() {
    let server = ServerProcess::start(["demo", "--access-logfile", "-", "--cancel-on-disconnect", "close"]);
    let files = settled_files(&server);
    let mut client = server.connect();
    // A pipelined request behind it changes nothing.
    client.send(
        [request("GET", "/sleep?ms=600000", &[], b""), request("GET", "/plaintext", &[], b"")].concat(),
    );
    assert_eq!(server.get("/sleep?ms=50").status, 200, "who stays is answered");
    drop(client);
    assert!(server.wait_for_output("/sleep?ms=600000").contains("\" 499 "));
    eventually(PATIENCE, || server.proc().open_files() <= files);
    let mut half_closed = server.connect();
    half_closed.send(request("GET", "/sleep?ms=600001", &[], b""));
    half_closed.finish_sending();
    assert!(server.wait_for_output("/sleep?ms=600001").contains("\" 499 "));

    let server = ServerProcess::start(["demo", "--access-logfile", "-", "--cancel-on-disconnect", "reset"]);
    let mut half_closed = server.connect();
    half_closed.send(request("GET", "/sleep?ms=50", &[], b""));
    half_closed.finish_sending();
    assert_eq!(half_closed.response().status, 200, "it is still there");
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=600000", &[], b""));
    assert_eq!(server.get("/sleep?ms=1").status, 200);
    client.reset();
    assert!(server.wait_for_output("/sleep?ms=600000").contains("\" 499 "));
}
