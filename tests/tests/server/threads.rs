//! `-k threads` with `--threads`: how many requests are handled at once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use greenserve::{Request, Server};
use greenserve_tests::{Client, PATIENCE, ServerProcess, eventually, request};

/// A handler that takes a moment, and the most that there have been of it at once.
pub(crate) fn counted() -> (impl Fn(Request) -> &'static str + Send + Sync + 'static, Arc<AtomicUsize>) {
    let (running, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::clone(&most);
    let handler = move |_: Request| {
        at_once.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        running.fetch_sub(1, Ordering::SeqCst);
        "done"
    };
    (handler, most)
}

#[test]
fn no_more_requests_than_threads_are_handled_at_once() {
    let server = Server::bind("127.0.0.1:0").unwrap().threads(NonZeroUsize::new(2));
    let (addr, handle) = (server.local_addrs()[0].as_inet().unwrap(), server.handle());
    let (handler, most) = counted();
    let serving = thread::spawn(move || server.serve_threads(handler));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = Client::tcp(addr);
                // Several on one connection, which gives its turn back after each.
                (0..3).for_each(|_| assert_eq!(client.get("/").text(), "done"));
            });
        }
    });
    handle.stop();
    serving.join().unwrap().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[test]
fn a_connection_that_waits_for_its_next_request_takes_nobodys_turn() {
    let server = ServerProcess::start(["demo", "-k", "threads", "--threads", "1", "--keep-alive", "600"]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for _ in 0..2 {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/plaintext").status, 200));
    }
    // Nor does one of whose head only a part has come.
    clients[0].send(b"GET / HTTP/1.1\r\nHos");
    assert_eq!(clients[1].get("/plaintext").status, 200);
}

#[test]
fn a_request_waits_until_another_has_been_answered_and_a_panic_gives_its_turn_back() {
    let server = ServerProcess::start(["demo", "-k", "threads", "--threads", "1"]);
    assert_eq!(server.get("/panic").status, 500);
    let mut first = server.connect();
    first.send(request("GET", "/stream?n=4&size=10&delay_ms=150", &[], b""));
    first.read_head("GET").unwrap();
    // The answer has begun and has not ended: it is handled still.
    let mut second = server.connect();
    second.send(request("GET", "/plaintext", &[], b""));
    second.expect_silence(Duration::from_millis(50));
    assert_eq!(second.response().status, 200);
}

#[test]
fn without_the_setting_there_is_no_such_limit() {
    let server = ServerProcess::start(["demo", "-k", "threads"]);
    let mut sleeps = server.connect();
    sleeps.send(request("GET", "/sleep?ms=600000", &[], b""));
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn sync_with_several_threads_is_threads() {
    let server = ServerProcess::start(["demo", "-k", "sync", "--threads", "2"]);
    server.wait_for_log("Using worker: threads");
    let mut sleeps = server.connect();
    sleeps.send(request("GET", "/sleep?ms=600000", &[], b""));
    eventually(PATIENCE, || server.get("/plaintext").status == 200);
}
