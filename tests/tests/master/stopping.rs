//! How a master ends.

use std::thread;
use std::time::Duration;

use greenserve_tests::{Load, PATIENCE, Scratch, ServerProcess, eventually, request};

use crate::nothing_was_lost;

#[test]
fn term_loses_nothing_of_what_clients_have_asked() {
    let mut server = ServerProcess::start(["demo", "-w", "3"]);
    server.wait_for_workers(3);
    let loads = Load::both(server.addr(), 8);
    loads.iter().for_each(|load| load.wait_for(50));
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    nothing_was_lost(loads);
}

#[test]
fn term_lets_a_request_under_way_finish() {
    let mut server = ServerProcess::start(["demo", "-w", "2"]);
    server.wait_for_workers(2);
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=700", &[], b""));
    thread::sleep(Duration::from_millis(100));
    server.signal(libc::SIGTERM);
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(server.wait_exit().success());
}

#[test]
fn a_request_that_outlasts_the_graceful_timeout_is_cut_off() {
    let mut server = ServerProcess::start(["demo", "-w", "1", "--graceful-timeout", "0.3"]);
    server.wait_for_workers(1);
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=600000", &[], b""));
    thread::sleep(Duration::from_millis(100));
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
}

#[test]
fn int_and_quit_end_everything_at_once() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        let mut server = ServerProcess::start(["demo", "-w", "2", "--graceful-timeout", "600"]);
        let workers = server.wait_for_workers(2);
        let mut client = server.connect();
        client.send(request("GET", "/sleep?ms=600000", &[], b""));
        thread::sleep(Duration::from_millis(100));
        server.signal(signal);
        assert!(server.wait_exit().success());
        gone(&workers);
    }
}

#[test]
fn int_unwinds_requests_under_way() {
    for workers in ["0", "2"] {
        let mut server = ServerProcess::start(["demo", "-w", workers, "--graceful-timeout", "600"]);
        let mut client = server.connect();
        assert_eq!(client.get("/plaintext").status, 200);
        client.send(request("GET", "/sleep?ms=600000", &[], b""));
        thread::sleep(Duration::from_millis(100));
        server.signal(libc::SIGINT);
        let response = client.response();
        assert_eq!((response.status, response.from_app()), (503, false));
        assert!(server.wait_exit().success());
    }
}

#[test]
fn during_the_drain_delay_all_are_served_and_sent_away_and_nothing_is_lost() {
    for workers in [0, 2] {
        let count = workers.to_string();
        let mut server = ServerProcess::start(["demo", "-w", &count, "--drain-delay", "4"]);
        let pids = if workers > 0 { server.wait_for_workers(workers) } else { Vec::new() };
        let loads = Load::both(server.addr(), 4);
        loads.iter().for_each(|load| load.wait_for(20));
        assert!(!server.get("/plaintext").says_close());
        server.signal(libc::SIGTERM);
        eventually(PATIENCE, || server.get("/plaintext").says_close());
        loads.iter().for_each(|load| load.wait_for(50));
        assert_eq!(server.children(), pids);
        assert!(server.wait_exit().success());
        nothing_was_lost(loads);
    }
}

#[test]
fn a_graceful_stop_can_be_hurried() {
    let mut server = ServerProcess::start(["demo", "-w", "1", "--graceful-timeout", "600"]);
    server.wait_for_workers(1);
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=600000", &[], b""));
    thread::sleep(Duration::from_millis(100));
    server.signal(libc::SIGTERM);
    server.wait_for_log("Handling signal: term");
    assert!(server.is_running());
    server.signal(libc::SIGINT);
    assert!(server.wait_exit().success());
}

#[test]
fn a_master_that_is_killed_leaves_no_worker_that_serves_for_ever() {
    let mut server = ServerProcess::start(["demo", "-w", "2"]);
    let workers = server.wait_for_workers(2);
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=500", &[], b""));
    thread::sleep(Duration::from_millis(100));
    server.signal(libc::SIGKILL);
    // What was begun is finished.
    assert_eq!(client.response().status, 200);
    gone(&workers);
    assert!(!server.is_running());
}

#[test]
fn a_unix_sockets_file_goes_with_the_master_and_not_with_a_worker() {
    let scratch = Scratch::new();
    let path = scratch.path().join("socket");
    let mut server = ServerProcess::builder()
        .args(["demo", "-w", "2"])
        .bind("127.0.0.1:0")
        .bind(format!("unix:{}", path.display()))
        .start();
    let before = server.wait_for_workers(2);
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().iter().all(|pid| !before.contains(pid)));
    assert_eq!(greenserve_tests::Client::unix(&path).get("/plaintext").status, 200);
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(!path.exists());
}

/// Waits until these processes are no more.
fn gone(pids: &[u32]) {
    // A worker whose master was killed is waited for by somebody else, perhaps late: a zombie serves nobody.
    let lives = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    };
    eventually(PATIENCE, || !pids.iter().any(lives));
}
