//! Workers that have served enough.

use greenserve_tests::{Load, PATIENCE, ServerProcess, eventually};

use crate::nothing_was_lost;

/// Waits until none of these serves any more and as many others do.
fn wait_for_others(server: &ServerProcess, workers: &[u32]) {
    eventually(PATIENCE, || {
        let now = server.children();
        now.len() == workers.len() && !now.iter().any(|pid| workers.contains(pid))
    });
}

#[test]
fn workers_are_replaced_after_their_requests_and_nothing_is_lost() {
    for kind in ["green", "threads"] {
        let args = ["-k", kind, "--max-requests", "150", "--max-requests-jitter", "100"];
        let server = ServerProcess::start(["demo", "-w", "2"].into_iter().chain(args));
        let workers = server.wait_for_workers(2);
        let loads = Load::both(server.addr(), 4);
        server.wait_for_log("(max_requests)");
        eventually(PATIENCE, || !server.children().iter().any(|pid| workers.contains(pid)));
        loads.iter().for_each(|load| load.wait_for(50));
        nothing_was_lost(loads);
    }
}

#[test]
fn a_worker_that_takes_too_much_memory_is_replaced_and_nothing_is_lost() {
    let server = ServerProcess::start(["demo", "-w", "1", "--max-worker-memory", "256MiB"]);
    let workers = server.wait_for_workers(1);
    let loads = Load::both(server.addr(), 2);
    loads.iter().for_each(|load| load.wait_for(20));
    assert_eq!(server.get("/leak?mib=300").status, 200);
    server.wait_for_log("(max_worker_memory)");
    wait_for_others(&server, &workers);
    loads.iter().for_each(|load| load.wait_for(20));
    nothing_was_lost(loads);
}

#[test]
fn a_limit_of_memory_that_nobody_can_keep_is_told_of_and_replaces_nobody() {
    let server = ServerProcess::start(["demo", "-w", "1", "--max-worker-memory", "64K"]);
    let workers = server.wait_for_workers(1);
    server.wait_for_log("max_worker_memory is not kept");
    assert_eq!(server.get("/leak?mib=1").status, 200);
    assert_eq!(server.children(), workers);
}

#[test]
fn workers_are_replaced_at_the_end_of_their_lives_and_nothing_is_lost() {
    let args = ["demo", "-w", "2", "--max-worker-lifetime", "1", "--max-worker-lifetime-jitter", "1"];
    let server = ServerProcess::start(args);
    let workers = server.wait_for_workers(2);
    let loads = Load::both(server.addr(), 4);
    server.wait_for_log("(max_worker_lifetime)");
    eventually(PATIENCE, || !server.children().iter().any(|pid| workers.contains(pid)));
    loads.iter().for_each(|load| load.wait_for(50));
    nothing_was_lost(loads);
}
