//! What must hold whatever carries the connections: green threads or OS threads, TCP or a unix socket.

use std::time::Duration;

use greenserve_tests::{Client, Framing, ReadError, Scratch, ServerProcess, request};

fn core_table(connect: &dyn Fn() -> Client) {
    let mut client = connect();
    assert_eq!(client.get("/plaintext").text(), "Hello, World!");
    assert_eq!(client.post("/upload", &[b'x'; 100_000]).json()["length"], 100_000);
    assert_eq!(client.get("/fixed?n=1000000").framing, Framing::Length(1_000_000));
    assert_eq!(client.get("/stream?n=10&size=10000").body.len(), 100_000);
    assert_eq!(client.get("/sleep?ms=5").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    client.send(request("HEAD", "/fixed?n=50", &[], b""));
    assert_eq!(client.response_to("HEAD").header("content-length"), Some("50"));

    client.send(
        [request("POST", "/ignore-body", &[], b"unread"), request("GET", "/fixed?n=3", &[], b"")].concat(),
    );
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().body.len(), 3);
    client.send(request("POST", "/upload", &["Expect: 100-continue", "Content-Length: 5"], b""));
    assert_eq!(client.response().status, 100);
    client.send("hello");
    assert_eq!(client.response().json()["length"], 5);
    client.send(request("GET", "/plaintext", &["Connection: close"], b""));
    assert!(client.response().says_close());
    client.expect_close();

    let mut chunked = connect();
    chunked.send(request("POST", "/upload", &["Transfer-Encoding: chunked"], b""));
    assert!(chunked.send_slowly(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 2, Duration::from_millis(1)));
    assert_eq!(chunked.response().json()["length"], 11);

    let mut old = connect();
    old.send("GET /stream?n=3&size=5 HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().body.len(), 15);

    let mut half_closed = connect();
    half_closed.send(request("GET", "/sleep?ms=50", &[], b""));
    half_closed.finish_sending();
    assert_eq!(half_closed.response().status, 200);
    half_closed.expect_close();

    for (bytes, status) in [
        ("GET /echo HTTP/1.1\r\n\r\n", 400),
        ("GET /echo HTTP/1.1\r\nHost: test\r\nContent-Length: x\r\n\r\n", 400),
        ("POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        ("GET /panic HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 500),
    ] {
        let mut refused = connect();
        refused.send(bytes);
        let response = refused.response();
        assert_eq!((response.status, response.from_app()), (status, false), "{bytes:?}");
        refused.expect_close();
    }

    let mut broken = connect();
    broken.send(request("GET", "/panic-mid", &[], b""));
    assert!(matches!(broken.try_response(), Err(ReadError::Truncated(_))));

    let mut sleepers: Vec<Client> = (0..20).map(|_| connect()).collect();
    for sleeper in &mut sleepers {
        sleeper.send(request("GET", "/sleep?ms=100", &[], b""));
    }
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.response().status, 200);
    }
}

#[test]
fn green_threads_over_tcp() {
    let server = ServerProcess::start(["demo", "-k", "green"]);
    core_table(&|| server.connect());
}

#[test]
fn os_threads_over_tcp() {
    let server = ServerProcess::start(["demo", "-k", "threads"]);
    core_table(&|| server.connect());
}

#[test]
fn green_threads_over_a_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.join("green.sock");
    let _server = ServerProcess::builder().args(["demo"]).bind(format!("unix:{}", path.display())).start();
    core_table(&|| Client::unix(&path));
}

#[test]
fn os_threads_over_a_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.join("threads.sock");
    let bind = format!("unix:{}", path.display());
    let _server = ServerProcess::builder().args(["demo", "-k", "threads"]).bind(bind).start();
    core_table(&|| Client::unix(&path));
}

#[test]
fn with_threads_each_connection_has_a_thread_of_its_own() {
    let server = ServerProcess::start(["demo", "-k", "threads"]);
    let before = server.proc().threads();
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    assert!(server.proc().threads() >= before + 10);
    let mut blocker = server.connect();
    blocker.send(request("GET", "/block?ms=600000", &[], b""));
    assert_eq!(server.get("/plaintext").status, 200, "one that blocks holds up nobody but itself");
}

#[test]
fn with_threads_the_number_of_connections_is_bounded_too() {
    let server = ServerProcess::start(["demo", "-k", "threads", "--worker-connections", "2"]);
    let before = server.proc().threads();
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/sleep?ms=100", &["Connection: close"], b""));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(server.proc().threads() <= before + 3, "two connections, and perhaps one that waits for room");
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}
