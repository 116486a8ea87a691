//! Workers that die, hang or never come up.

use greenserve_tests::{Binary, PATIENCE, ServerProcess, eventually, request, send_signal};

#[test]
fn a_worker_that_is_killed_costs_only_what_it_was_doing_and_is_replaced() {
    let server = ServerProcess::start(["demo", "-w", "2"]);
    let workers = server.wait_for_workers(2);
    send_signal(workers[0], libc::SIGKILL);
    server.wait_for_log("SIGKILL");
    eventually(PATIENCE, || {
        let now = server.children();
        now.len() == 2 && !now.contains(&workers[0]) && now.contains(&workers[1])
    });
    for _ in 0..8 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
}

#[test]
fn a_worker_whose_hub_does_not_turn_is_aborted_and_replaced() {
    let server = ServerProcess::start(["demo", "-w", "1", "--timeout", "3"]);
    let workers = server.wait_for_workers(1);
    let mut client = server.connect();
    client.send(request("GET", "/block?ms=600000", &[], b""));
    server.wait_for_log(&format!("WORKER TIMEOUT (pid:{})", workers[0]));
    client.expect_gone();
    eventually(PATIENCE, || server.children().len() == 1 && !server.children().contains(&workers[0]));
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_slow_request_is_no_hanging_worker() {
    let server = ServerProcess::start(["demo", "-w", "1", "--timeout", "2"]);
    let workers = server.wait_for_workers(1);
    assert_eq!(server.get("/sleep?ms=5000").status, 200);
    assert_eq!(server.children(), workers);
}

#[test]
fn a_stack_that_overflows_costs_one_worker_and_names_its_greenlet() {
    let server = ServerProcess::start(["demo", "-w", "2"]);
    let workers = server.wait_for_workers(2);
    let mut client = server.connect();
    client.send(request("GET", "/overflow", &[], b""));
    client.expect_gone();
    server.wait_for_log("overflowed its stack");
    eventually(PATIENCE, || {
        let now = server.children();
        now.len() == 2 && now.iter().filter(|pid| workers.contains(pid)).count() == 1
    });
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn an_address_in_use_ends_the_master_with_a_clear_error() {
    let server = ServerProcess::start(["demo", "-w", "1"]);
    let output = Binary::run(&["demo", "-w", "1", "-b", &server.addr().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&server.addr().to_string()) && said.contains("--bind"), "{said}");
}
