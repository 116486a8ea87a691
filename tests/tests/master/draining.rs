//! `greenserve ctl drain` and `undrain`.

use greenserve_tests::{Load, PATIENCE, eventually};
use serde_json::json;

use crate::control::Master;
use crate::metrics::{metrics_of, status};
use crate::nothing_was_lost;

/// Whether all workers say of each response that it is the last.
fn all_send_away(master: &Master) -> bool {
    (0..8).all(|_| master.server.get("/plaintext").says_close())
}

#[test]
fn a_drained_server_says_so_and_serves_on_until_it_is_undrained() {
    let master = Master::start(2, &["--metrics-bind", "127.0.0.1:0"]);
    let metrics = metrics_of(&master.server);
    let loads = Load::both(master.server.addr(), 2);
    eventually(PATIENCE, || status(metrics, "/health") == 200);
    assert_eq!(master.ask("drain"), json!({"status": "drained"}));
    eventually(PATIENCE, || status(metrics, "/health") == 503);
    assert_eq!(status(metrics, "/health/live"), 200);
    eventually(PATIENCE, || all_send_away(&master));
    assert_eq!(master.ask("show stats")["drained"], true);
    loads.iter().for_each(|load| load.wait_for(20));
    assert_eq!(master.ask("undrain"), json!({"status": "serving"}));
    eventually(PATIENCE, || status(metrics, "/health") == 200);
    eventually(PATIENCE, || (0..8).all(|_| !master.server.get("/plaintext").says_close()));
    assert_eq!(master.ask("show stats")["drained"], false);
    nothing_was_lost(loads);
}

#[test]
fn workers_that_are_started_meanwhile_are_drained_too() {
    let master = Master::start(1, &["--metrics-bind", "127.0.0.1:0", "-k", "threads"]);
    let metrics = metrics_of(&master.server);
    master.ask("drain");
    let old = master.server.children();
    master.ask("reload");
    eventually(PATIENCE, || master.server.children().len() == 1 && master.server.children() != old);
    assert!(master.server.get("/plaintext").says_close());
    eventually(PATIENCE, || status(metrics, "/health/live") == 200);
    assert_eq!(status(metrics, "/health"), 503);
    master.ask("undrain");
    eventually(PATIENCE, || status(metrics, "/health") == 200);
    assert!(!master.server.get("/plaintext").says_close());
}

#[test]
fn a_worker_that_is_leaving_does_not_come_back_by_undrain() {
    let master = Master::start(1, &["--drain-delay", "3"]);
    let old = master.server.children();
    master.ask("shutdown");
    let refused = master.ctl("undrain");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("about to stop"));
    eventually(PATIENCE, || master.server.get("/plaintext").says_close());
    assert_eq!(master.server.children(), old);
}

#[test]
fn what_is_counted_is_shown() {
    let master = Master::start(2, &["--metrics-bind", "127.0.0.1:0"]);
    let mut kept: Vec<_> = (0..6).map(|_| master.server.connect()).collect();
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/plaintext").status, 200));
    eventually(PATIENCE, || {
        let stats = master.ask("show stats");
        let workers = stats["workers"].as_array().unwrap();
        let sum: u64 = workers.iter().map(|worker| worker["requests"].as_u64().unwrap()).sum();
        (stats["requests"] == 6 && sum == 6)
            && (&stats["connections"], &stats["requests_in_progress"]) == (&json!(6), &json!(0))
    });
    // What a worker has counted is not forgotten when it has gone.
    master.ask("reload");
    kept.clear();
    eventually(PATIENCE, || {
        let stats = master.ask("show stats");
        let fresh = stats["workers"].as_array().unwrap().iter().all(|worker| worker["requests"] == 0);
        fresh && stats["workers_current"] == 2 && stats["requests"] == 6
    });
}
