//! `-k sync`: one request after the other.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use greenserve::Server;
use greenserve_tests::{Client, ServerProcess, request};

use crate::threads::counted;

#[test]
fn each_connection_serves_one_request() {
    let server = ServerProcess::start(["demo", "-k", "sync", "--keep-alive", "600"]);
    for _ in 0..3 {
        let mut client = server.connect();
        let response = client.get("/plaintext");
        assert_eq!((response.status, response.says_close()), (200, true));
        client.expect_close();
    }
}

#[test]
fn no_request_runs_beside_another() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (addr, handle) = (server.local_addrs()[0].as_inet().unwrap(), server.handle());
    let (handler, most) = counted();
    let serving = thread::spawn(move || server.serve_sync(handler));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(Client::tcp(addr).get("/").text(), "done"));
        }
    });
    handle.stop();
    serving.join().unwrap().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_costs_one_request() {
    let server = ServerProcess::start(["demo", "-k", "sync"]);
    assert_eq!(server.get("/panic").status, 500);
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_stop_waits_for_the_request_under_way() {
    let mut server = ServerProcess::start(["demo", "-k", "sync"]);
    let mut client = server.connect();
    client.send(request("GET", "/sleep?ms=700", &[], b""));
    thread::sleep(Duration::from_millis(100));
    server.signal(libc::SIGTERM);
    assert_eq!(client.response().status, 200);
    assert!(server.wait_exit().success());
}
