//! How a server ends: no new connections, those in flight finish within a deadline, then it goes.

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use greenserve_tests::{Client, PATIENCE, ReadError, ServerProcess, eventually, request};

/// A client whose request the application works on: others that came later have been answered.
fn in_flight(server: &ServerProcess, target: &str) -> Client {
    let mut client = server.connect();
    assert_eq!(client.get("/plaintext").status, 200);
    client.send(request("GET", target, &[], b""));
    for _ in 0..3 {
        assert_eq!(server.get("/sleep?ms=10").status, 200);
    }
    client
}

fn refuses(server: &ServerProcess) -> bool {
    TcpStream::connect(server.addr()).is_err()
}

#[test]
fn sigterm_lets_requests_in_flight_finish_and_then_ends_with_status_0() {
    for kind in ["green", "threads"] {
        let mut server = ServerProcess::start(["demo", "-k", kind]);
        let mut sleeper = in_flight(&server, "/sleep?ms=1000");
        let mut streamer = in_flight(&server, "/stream?n=10&size=10&delay_ms=100");
        server.signal(libc::SIGTERM);
        eventually(PATIENCE, || refuses(&server));
        assert!(server.is_running(), "{kind}: it waits for the requests in flight");
        let response = sleeper.response();
        assert_eq!(response.status, 200, "{kind}");
        assert!(response.says_close(), "{kind}: there will be no further request");
        sleeper.expect_close();
        assert_eq!(streamer.response().body.len(), 100, "{kind}");
        assert!(server.wait_exit().success(), "{kind}: {}", server.log());
    }
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    for kind in ["green", "threads"] {
        let mut server = ServerProcess::start([
            "demo",
            "-k",
            kind,
            "--keep-alive",
            "600",
            "--header-timeout",
            "600",
            "--graceful-timeout",
            "600",
        ]);
        let mut idle = server.connect();
        assert_eq!(idle.get("/plaintext").status, 200);
        let mut fresh = server.connect();
        let mut sleeper = in_flight(&server, "/sleep?ms=300");
        server.signal(libc::SIGTERM);
        assert_eq!(sleeper.response().status, 200);
        idle.expect_close();
        fresh.expect_gone();
        assert!(server.wait_exit().success(), "{kind}");
    }
}

#[test]
fn what_takes_longer_than_the_graceful_timeout_is_cut_off() {
    for kind in ["green", "threads"] {
        let mut server = ServerProcess::start(["demo", "-k", kind, "--graceful-timeout", "1"]);
        let mut sleeper = in_flight(&server, "/sleep?ms=600000");
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit().code().is_some(), "{kind}: it ends by itself, not by a signal");
        match sleeper.try_response() {
            Ok(response) => {
                assert_eq!((response.status, response.from_app(), kind), (503, false, "green"));
                assert!(response.says_close());
            }
            _ if kind == "green" => panic!("a request of which nothing was answered gets 503"),
            Err(ReadError::Closed | ReadError::Failed(_)) => {}
            Err(error) => panic!("{kind}: {error}"),
        }
    }
}

#[test]
fn requests_pipelined_behind_the_one_in_flight_are_not_answered_with_nonsense() {
    let mut server = ServerProcess::start(["demo"]);
    let mut client = in_flight(&server, "/sleep?ms=500");
    client.send(request("GET", "/fixed?n=5", &[], b""));
    server.signal(libc::SIGTERM);
    let first = client.response();
    assert_eq!(first.status, 200);
    if !first.says_close() {
        assert_eq!(client.response().body.len(), 5);
    }
    client.expect_gone();
    assert!(server.wait_exit().success());
}

#[test]
fn an_idle_server_ends_at_once_on_sigterm_and_on_sigint() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = ServerProcess::start(["demo", "--graceful-timeout", "600"]);
        assert_eq!(server.get("/plaintext").status, 200);
        server.signal(signal);
        let status = server.wait_exit();
        assert!(status.success(), "signal {signal}: {status}");
    }
}

#[test]
fn sigint_does_not_wait_for_requests_in_flight() {
    let mut server = ServerProcess::start(["demo", "--graceful-timeout", "600"]);
    let mut sleeper = in_flight(&server, "/sleep?ms=600000");
    server.signal(libc::SIGINT);
    let status = server.wait_exit();
    assert_ne!(status.signal(), Some(libc::SIGKILL));
    sleeper.set_patience(Duration::from_secs(5));
    assert!(sleeper.try_response().is_err() || !server.is_running());
}

#[test]
fn the_port_is_free_again_after_the_end() {
    let mut server = ServerProcess::start(["demo"]);
    let addr = server.addr();
    assert_eq!(server.get("/plaintext").status, 200);
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    let again = ServerProcess::builder().args(["demo"]).bind(addr.to_string()).start();
    assert_eq!(again.get("/plaintext").status, 200);
}
