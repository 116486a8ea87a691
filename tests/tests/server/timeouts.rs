//! Clients that are slow, on purpose or not: each phase of a connection has its time, and it is a total.

use std::thread;
use std::time::{Duration, Instant};

use greenserve_tests::{Client, ReadError, ServerProcess, request};

/// Longer than any test's patience: the phases that a test is not about.
const QUICK_HEAD: [&str; 7] =
    ["demo", "--header-timeout", "1", "--body-timeout", "600", "--keep-alive", "600"];
const QUICK_BODY: [&str; 7] =
    ["demo", "--header-timeout", "600", "--body-timeout", "1", "--keep-alive", "600"];

/// A 408 of the server's own and an end, or just the end.
#[track_caller]
fn expect_timed_out(client: &mut Client) {
    match client.try_response() {
        Ok(response) => {
            assert_eq!((response.status, response.from_app()), (408, false));
            client.expect_close();
        }
        Err(ReadError::Closed | ReadError::Failed(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Sends a byte at a time, each well before a per-read timeout of a second, until the server ends it.
fn trickle(client: &mut Client, bytes: &[u8]) -> bool {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        if client.try_send(&[*byte]).is_err() {
            return true;
        }
        if start.elapsed() > greenserve_tests::PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
    false
}

#[test]
fn a_client_that_connects_and_says_nothing_is_let_go() {
    let server = ServerProcess::start(QUICK_HEAD);
    expect_timed_out(&mut server.connect());
}

#[test]
fn a_client_that_stops_inside_the_head_is_let_go() {
    let server = ServerProcess::start(QUICK_HEAD);
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: test\r\n", "\r\n"] {
        let mut client = server.connect();
        client.send(part);
        expect_timed_out(&mut client);
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_over_when_its_total_time_is() {
    let server = ServerProcess::start(QUICK_HEAD);
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX: ");
    assert!(trickle(&mut client, b"y"), "a byte now and then must not keep a connection for ever");
}

#[test]
fn the_second_request_on_a_connection_has_the_same_time_for_its_head() {
    let server = ServerProcess::start(QUICK_HEAD);
    let mut client = server.connect();
    assert_eq!(client.get("/plaintext").status, 200);
    client.send("GET / HT");
    expect_timed_out(&mut client);
}

#[test]
fn the_time_for_the_head_does_not_run_while_a_handler_works() {
    let server = ServerProcess::start(QUICK_HEAD);
    let mut client = server.connect();
    assert_eq!(client.get("/sleep?ms=1500").status, 200);
    assert_eq!(client.get("/plaintext").status, 200);
    // nor does the time for one count against the next: the second one was there in time
    client
        .send([request("GET", "/sleep?ms=1500", &[], b""), request("GET", "/plaintext", &[], b"")].concat());
    assert_eq!((client.response().status, client.response().text()), (200, "Hello, World!"));
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let server = ServerProcess::start(QUICK_BODY);
    let rows = [
        request("POST", "/upload", &["Content-Length: 10"], b""),
        request("POST", "/upload", &["Transfer-Encoding: chunked"], b""),
    ];
    for head in rows {
        let mut client = server.connect();
        client.send(head);
        client.send("5\r\nhel");
        expect_timed_out(&mut client);
    }
    assert_eq!(server.connect().post("/upload", b"quick").status, 200);
}

#[test]
fn a_body_that_comes_byte_by_byte_is_over_when_its_total_time_is() {
    let server = ServerProcess::start(QUICK_BODY);
    let mut client = server.connect();
    client.send(request("POST", "/upload", &["Content-Length: 1000000"], b""));
    assert!(trickle(&mut client, b"y"), "a byte now and then must not keep a connection for ever");
}

#[test]
fn a_body_that_comes_too_slowly_is_over_long_before_its_total_time_is() {
    for kind in ["green", "threads"] {
        let rate = ["--min-body-rate", "10K", "--min-body-rate-grace", "0.5", "--body-timeout", "600"];
        let server = ServerProcess::start(["demo", "-k", kind].into_iter().chain(rate));
        for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let mut client = server.connect();
            client.send(request("POST", "/upload", &[framing], b""));
            client.send("fffff\r\n");
            assert!(trickle(&mut client, b"y"), "{kind}, {framing}: ten bytes a second are not ten thousand");
            expect_timed_out(&mut client);
        }
    }
}

#[test]
fn a_body_that_comes_fast_enough_may_take_its_time() {
    let rate = ["--min-body-rate", "100", "--min-body-rate-grace", "0.3"];
    let server = ServerProcess::start(["demo"].into_iter().chain(rate));
    let mut client = server.connect();
    client.send(request("POST", "/upload", &["Content-Length: 100000"], b""));
    // Each piece is worth ten seconds, and all of them take longer than the grace.
    assert!(client.send_slowly(&[b'y'; 100_000], 1000, Duration::from_millis(10)));
    assert_eq!(client.response().json()["length"], 100_000);
}

/// The kernel says that there is room again only when much of its buffer is free: not for this client, for seconds.
#[test]
fn a_client_that_takes_little_at_a_time_is_not_cut_off() {
    for kind in ["green", "threads"] {
        let server = ServerProcess::start(["demo", "-k", kind, "--write-timeout", "2"]);
        let mut client = server.connect();
        client.shrink_receive_buffer_to(32 * 1024);
        client.send(request("GET", "/fixed?n=8000000", &[], b""));
        client.read_head("GET").expect("a head");
        let mut taken = 0;
        for _ in 0..50 {
            taken += client.read_some(8 * 1024).len();
            thread::sleep(Duration::from_millis(100));
        }
        while taken < 8_000_000 {
            taken += client.read_some(usize::MAX).len();
        }
        assert_eq!(taken, 8_000_000, "{kind}");
    }
}

#[test]
fn a_client_that_does_not_read_its_answer_is_let_go() {
    let server = ServerProcess::start(["demo", "--write-timeout", "1"]);
    let files = server.proc().open_files();
    let mut client = server.connect();
    client.shrink_receive_buffer();
    client.send(request("GET", "/stream?n=100000&size=100000", &[], b""));
    greenserve_tests::eventually(greenserve_tests::PATIENCE, || server.proc().open_files() > files);
    greenserve_tests::eventually(greenserve_tests::PATIENCE, || server.proc().open_files() <= files);
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_client_that_reads_slowly_but_steadily_gets_all() {
    let server = ServerProcess::start(["demo", "--write-timeout", "1"]);
    let mut client = server.connect();
    client.send(request("GET", "/stream?n=20&size=500000", &[], b""));
    client.read_head("GET").expect("a head");
    assert_eq!(client.read_chunks_slowly(20, Duration::from_millis(100)), 10_000_000);
}

#[test]
fn a_request_over_its_time_is_unwound_and_harms_nobody_else() {
    let server = ServerProcess::start(["demo", "--request-timeout", "1"]);
    let mut other = server.connect();
    other.send(request("GET", "/sleep?ms=700", &[], b""));
    let response = server.get("/sleep?ms=600000");
    assert!([500, 503, 504].contains(&response.status), "{}", response.status);
    assert!(!response.from_app());
    assert_eq!(other.response().status, 200);
    assert_eq!(other.get("/sleep?ms=1").status, 200, "each request has the time anew");
}

#[test]
fn a_request_over_its_time_in_the_middle_of_its_answer_is_cut_short() {
    let server = ServerProcess::start(["demo", "--request-timeout", "1"]);
    let mut client = server.connect();
    client.send(request("GET", "/stream?n=2&size=5&delay_ms=60000", &[], b""));
    match client.try_response() {
        Err(ReadError::Truncated(part)) => assert!(part.body.len() <= 5),
        other => panic!("the client must be able to tell: {other:?}"),
    }
}
