//! `--worker-connections` bounds the connections served at once; the kernel's queue holds the others.

use std::thread;
use std::time::Duration;

use greenserve_tests::{Client, PATIENCE, ServerProcess, eventually, request};

/// How many sockets the server has open for clients, beyond what it had when idle.
fn served(server: &ServerProcess, idle: usize) -> usize {
    server.proc().open_files().saturating_sub(idle)
}

#[test]
fn a_full_pool_stops_accepting_and_goes_on_when_there_is_room() {
    let server = ServerProcess::start(["demo", "--worker-connections", "2", "--keep-alive", "600"]);
    let idle = server.proc().open_files();
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/sleep?ms=300", &["Connection: close"], b""));
    }
    eventually(PATIENCE, || served(&server, idle) >= 2);
    thread::sleep(Duration::from_millis(100));
    assert!(served(&server, idle) <= 2, "no more than two connections are taken");
    for client in &mut clients {
        assert_eq!(client.response().status, 200, "none is dropped");
        client.expect_close();
    }
}

#[test]
fn a_full_pool_waits_without_spinning() {
    let server = ServerProcess::start(["demo", "--worker-connections", "1"]);
    let mut inside = server.connect();
    inside.send(request("GET", "/sleep?ms=600000", &[], b""));
    let mut outside = server.connect();
    outside.send(request("GET", "/plaintext", &[], b""));
    thread::sleep(Duration::from_millis(100));
    let before = server.proc().cpu_time();
    outside.expect_silence(Duration::from_millis(600));
    let spent = server.proc().cpu_time() - before;
    assert!(spent < Duration::from_millis(300), "half the time or more was spent computing: {spent:?}");
    inside.reset();
}

#[test]
fn an_idle_connection_gives_its_place_up_when_its_keep_alive_time_is_over() {
    let server = ServerProcess::start(["demo", "--worker-connections", "1", "--keep-alive", "1"]);
    let mut first = server.connect();
    assert_eq!(first.get("/plaintext").status, 200);
    assert_eq!(server.get("/plaintext").status, 200, "waits until the first has had its time");
    first.expect_close();
}

#[test]
fn a_place_is_given_back_whatever_became_of_its_request() {
    let server = ServerProcess::start(["demo", "--worker-connections", "1"]);
    let endings: [&dyn Fn(); 5] = [
        &|| assert_eq!(server.get("/panic").status, 500),
        &|| assert!(server.connect().get("/bad-header?where=value-crlf").status >= 400),
        &|| assert_eq!(server.answer_to("garbage\r\n\r\n").status, 400),
        &|| server.connect().reset(),
        &|| {
            let mut client = server.connect();
            client.send(request("GET", "/panic-mid", &[], b""));
            client.try_response().expect_err("a body cut short");
        },
    ];
    for ending in endings.iter().cycle().take(15) {
        ending();
    }
    assert_eq!(server.get("/plaintext").status, 200);
}
