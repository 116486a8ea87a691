//! A handler that holds up everybody else is named in the log.

use std::time::Duration;

use greenserve_tests::{ServerProcess, eventually_some};

/// To look up the first names in a program with all its debug information can take a machine that is busy, and has to read the
/// program from its disk, half a minute and more.
const NAMES: Duration = Duration::from_secs(180);

/// The first line of the log that holds `text`, as soon as there is one.
fn wait_for_log(server: &ServerProcess, text: &str) -> String {
    eventually_some(NAMES, || server.log().lines().find(|line| line.contains(text)).map(str::to_owned))
}

#[test]
fn who_blocks_the_server_is_logged_with_its_stack_and_then_how_long_it_took() {
    let server = ServerProcess::start(["demo"]);
    assert_eq!(server.get("/block?ms=400").status, 200);
    let told = wait_for_log(&server, " holds the hub for ");
    assert!(told.contains("[WARNING] greenlet '") && told.contains(", spawned at "), "{told}");
    wait_for_log(&server, " has held the hub for ");
    let log = server.log();
    let stack =
        log.lines().skip_while(|line| *line != told).skip(1).take_while(|line| line.starts_with("    "));
    assert!(stack.into_iter().any(|line| line.contains("demo::waits::block")), "{log}");
    assert_eq!(log.matches(" holds the hub for ").count(), 1, "{log}");
    // The server goes on as if nothing had been.
    assert_eq!(server.get("/plaintext").text(), "Hello, World!");
}

#[test]
fn with_a_threshold_of_zero_nobody_is_told() {
    let server = ServerProcess::start(["demo", "--blocked-threshold", "0"]);
    assert_eq!(server.get("/block?ms=400").status, 200);
    assert!(!server.log().contains("the hub for"), "{}", server.log());
    let watched = ServerProcess::start(["demo"]);
    assert_eq!(watched.get("/plaintext").status, 200);
    assert_eq!(server.proc().threads() + 1, watched.proc().threads(), "nor is there a thread that would");
}

#[test]
fn a_server_that_only_waits_is_told_nothing_of() {
    let server = ServerProcess::start(["demo", "--blocked-threshold", "0.2"]);
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /sleep?ms=600 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert!(!server.log().contains("the hub for"), "{}", server.log());
}
