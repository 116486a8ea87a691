//! Workers that die, hang or never come up.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use greenserve_tests::{Binary, Load, PATIENCE, Scratch, ServerProcess, eventually, request, send_signal};

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
fn a_worker_that_is_told_to_go_by_the_operator_is_replaced_and_nobody_is_turned_away() {
    for signal in [libc::SIGTERM, libc::SIGQUIT] {
        let server = ServerProcess::start(["demo", "-w", "2"]);
        let workers = server.wait_for_workers(2);
        let loads = Load::both(server.addr(), 2);
        send_signal(workers[0], signal);
        eventually(PATIENCE, || server.children().len() == 2 && !server.children().contains(&workers[0]));
        loads.iter().for_each(|load| load.wait_for(30));
        let lost: Vec<_> = loads.into_iter().flat_map(|load| load.finish().lost).collect();
        assert!(signal != libc::SIGTERM || lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn an_old_master_that_is_killed_takes_no_clients_from_the_new_one() {
    let mut server = ServerProcess::start(["demo", "-w", "1"]);
    server.wait_for_workers(1);
    server.signal(libc::SIGUSR2);
    let line = server.wait_for_log("Started a new master, process ");
    let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    server.wait_for_log(&format!("[{new}] [INFO] All 1 workers are ready"));
    server.signal(libc::SIGKILL);
    server.wait_for_log("The old master is gone");
    server.wait_for_log("The master is gone");
    for _ in 0..20 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
    send_signal(new, libc::SIGTERM);
    server.wait_exit();
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
fn a_worker_that_is_aborted_tells_where_it_stands_and_who_waited_for_it() {
    let server = ServerProcess::start(["demo", "-w", "1", "--timeout", "2", "--blocked-threshold", "0"]);
    let workers = server.wait_for_workers(1);
    let mut sleepers: Vec<_> = (0..2).map(|_| server.connect()).collect();
    sleepers.iter_mut().for_each(|client| client.send(request("GET", "/sleep?ms=600000", &[], b"")));
    // Both are in their handlers when a third one has been answered.
    assert_eq!(server.get("/plaintext").status, 200);
    let mut client = server.connect();
    client.send(request("GET", "/block?ms=600000", &[], b""));
    server.wait_for_log(&format!("Worker exited (pid:{}", workers[0]));
    server.wait_for_log("Its other green threads");
    let log = server.log();
    let (before, after) = log.split_once("Its other green threads").unwrap();
    let (_, stands) = before.split_once("In the aborted worker, ").unwrap();
    assert!(stands.contains("demo::waits::block"), "{log}");
    assert_eq!(after.matches("demo::waits::sleep").count(), 2, "{log}");
    assert!(after.contains("sleeps since") && after.contains("accept on"), "{log}");
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
fn a_child_that_it_did_not_start_leaves_no_zombie() {
    // As process 1 of a container it inherits those that others leave behind. This one was its process's before it began.
    let scratch = Scratch::new();
    let (script, pid) = (scratch.path().join("start"), scratch.path().join("pid"));
    let text = format!(
        "#!/bin/sh\nsleep 1 >/dev/null 2>&1 &\necho $! >{}\nexec {} \"$@\"\n",
        pid.display(),
        Binary::path().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let server = ServerProcess::builder().program(script).args(["demo", "-w", "1"]).start();
    let stranger = std::fs::read_to_string(pid).unwrap();
    // A zombie has its entry, too.
    eventually(PATIENCE, || !Path::new("/proc").join(stranger.trim()).exists());
    assert_eq!(server.get("/plaintext").status, 200);
    assert!(!server.log().contains("ended unexpectedly"), "{}", server.log());
}

#[test]
fn an_address_in_use_ends_the_master_with_a_clear_error() {
    let server = ServerProcess::start(["demo", "-w", "1"]);
    let output = Binary::run(&["demo", "-w", "1", "-b", &server.addr().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&server.addr().to_string()) && said.contains("--bind"), "{said}");
}
