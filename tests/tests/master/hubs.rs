//! `--threads`: several hubs in each worker.

use std::collections::BTreeMap;

use greenserve_tests::{Client, Load, PATIENCE, ServerProcess, eventually, eventually_some, request};
use serde_json::Value;

use crate::control::Master;
use crate::nothing_was_lost;

/// Which OS thread of which process serves this connection.
fn hub_of(client: &mut Client) -> (u64, String) {
    let who: Value = serde_json::from_str(client.get("/whoami").text()).expect("JSON");
    let thread = who["thread"].as_str().expect("a thread's name").to_owned();
    (who["pid"].as_u64().expect("a process id"), thread)
}

/// A connection to each hub of the only worker.
fn one_for_each(server: &ServerProcess) -> BTreeMap<String, Client> {
    let mut clients = BTreeMap::new();
    let mut others = Vec::new();
    eventually(PATIENCE, || {
        let mut client = server.connect();
        let (_, hub) = hub_of(&mut client);
        // Those who are not needed stay for the time being, so that others are taken by the other hub.
        others.extend(clients.insert(hub, client));
        clients.len() == 2
    });
    clients
}

#[test]
fn while_a_hub_hangs_the_other_one_serves() {
    let args = ["demo", "-w", "1", "--threads", "2", "--timeout", "0", "--keep-alive", "60"];
    let server = ServerProcess::start(args);
    server.wait_for_workers(1);
    let mut clients = one_for_each(&server);
    let mut stuck = clients.remove("hub 2").expect("a connection of the second hub");
    stuck.send(request("GET", "/block?ms=600000", &[], b""));
    // Until then it may still accept somebody.
    server.wait_for_log("holds the hub");
    // Those too who come now.
    for client in clients.values_mut() {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    for _ in 0..4 {
        assert_eq!(hub_of(&mut server.connect()).1, "main");
    }
}

#[test]
fn a_hub_that_hangs_is_found_told_of_and_its_worker_replaced() {
    let args = ["demo", "-w", "1", "--threads", "2", "--timeout", "4", "--keep-alive", "60"];
    let server = ServerProcess::start(args);
    let workers = server.wait_for_workers(1);
    let mut clients = one_for_each(&server);
    let mut stuck = clients.remove("hub 2").expect("a connection of the second hub");
    stuck.send(request("GET", "/block?ms=600000", &[], b""));
    server.wait_for_log(&format!("WORKER TIMEOUT (pid:{})", workers[0]));
    server.wait_for_log(&format!("Worker exited (pid:{}", workers[0]));
    let log = server.log();
    let (_, told) = log.split_once("In the aborted worker, ").expect("where it stands");
    assert!(told.starts_with("hub 2 has not turned for "), "{log}");
    assert!(told.contains("demo::waits::block") && told.contains("accept on"), "{log}");
    assert!(!told.contains("In the aborted worker, "), "nothing is wrong with the other: {log}");
    eventually(PATIENCE, || server.children().len() == 1 && server.children() != workers);
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn hubs_that_turn_are_no_hanging_worker() {
    let server = ServerProcess::start(["demo", "-w", "1", "--threads", "3", "--timeout", "3"]);
    let workers = server.wait_for_workers(1);
    assert_eq!(server.get("/sleep?ms=5000").status, 200);
    assert_eq!(server.children(), workers);
}

#[test]
fn reload_and_stop_lose_nothing() {
    let mut server = ServerProcess::start(["demo", "-w", "2", "--threads", "2"]);
    let old = server.wait_for_workers(2);
    let loads = Load::both(server.addr(), 8);
    loads.iter().for_each(|load| load.wait_for(50));
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || {
        let now = server.children();
        now.len() == 2 && !now.iter().any(|pid| old.contains(pid))
    });
    loads.iter().for_each(|load| load.wait_for(50));
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    nothing_was_lost(loads);
}

#[test]
fn an_upgrade_from_one_hub_to_several_takes_effect_at_reload() {
    let scratch = greenserve_tests::Scratch::new();
    let file = scratch.join("settings.toml");
    std::fs::write(&file, "threads = 1\nkeepalive = 60\n").unwrap();
    let server = ServerProcess::start(["demo", "-w", "1", "-c", file.to_str().unwrap()]);
    let old = server.wait_for_workers(1);
    std::fs::write(&file, "threads = 2\nkeepalive = 60\n").unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().len() == 1 && server.children() != old);
    assert!(one_for_each(&server).contains_key("hub 2"));
}

#[test]
fn every_hub_of_every_worker_gets_a_share_of_the_connections() {
    const CONNECTIONS: usize = 120;
    for reuse_port in [false, true] {
        let mut args = vec!["demo", "-w", "2", "--threads", "2", "--keep-alive", "60"];
        args.extend(reuse_port.then_some("--reuse-port"));
        let server = ServerProcess::start(args);
        server.wait_for_workers(2);
        let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connect()).collect();
        let mut shares: BTreeMap<_, usize> = BTreeMap::new();
        clients.iter_mut().map(hub_of).for_each(|hub| *shares.entry(hub).or_default() += 1);
        println!("reuse_port {reuse_port}: {:?}", shares.values().collect::<Vec<_>>());
        assert_eq!(shares.len(), 4, "{shares:?}");
        assert!(shares.values().all(|share| *share >= CONNECTIONS / 40), "{shares:?}");
    }
}

#[test]
fn requests_of_all_hubs_count_for_max_requests() {
    let server = ServerProcess::start([
        "demo",
        "-w",
        "1",
        "--threads",
        "2",
        "--keep-alive",
        "60",
        "--max-requests",
        "200",
    ]);
    let old = server.wait_for_workers(1);
    let mut clients = one_for_each(&server);
    // Each hub alone would not get so far.
    for _ in 0..60 {
        clients.values_mut().for_each(|client| assert_eq!(client.get("/plaintext").status, 200));
    }
    assert_eq!(server.children(), old);
    for _ in 0..40 {
        clients
            .values_mut()
            .for_each(|client| drop(client.try_send(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n")));
    }
    server.wait_for_log("max_requests");
    eventually(PATIENCE, || server.children().len() == 1 && server.children() != old);
}

#[test]
fn operators_see_all_hubs_and_which_of_them_hangs() {
    let master = Master::start(1, &["--threads", "2", "--timeout", "0", "--keep-alive", "60"]);
    let mut clients = one_for_each(&master.server);
    let numbers = |list: &Value| {
        let mut numbers: Vec<u64> =
            list.as_array().expect("a list").iter().map(|row| row["hub"].as_u64().expect("a hub")).collect();
        numbers.sort();
        numbers.dedup();
        numbers
    };
    for list in ["connections", "greenlets"] {
        let told = master.ask(&format!("show {list}"));
        assert_eq!(numbers(&told["workers"][0][list]), [1, 2], "{told}");
    }
    let dump = master.ask("dump");
    let text = dump["workers"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with("hub 1\n") && text.contains("\nhub 2\n"), "{text}");
    clients.get_mut("hub 2").expect("a connection").send(request("GET", "/block?ms=600000", &[], b""));
    let told = eventually_some(PATIENCE, || {
        let told = master.ask("show connections");
        told["workers"][0]["silent"].is_array().then_some(told)
    });
    let worker = &told["workers"][0];
    assert_eq!((numbers(&worker["silent"]), numbers(&worker["connections"])), (vec![2], vec![1]), "{told}");
    assert!(worker["silent"][0]["why"].as_str().unwrap().contains("hub has not turned"), "{told}");
    let shown = master.ctl("show connections");
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("hub 2: its hub has not turned"), "{text}");
    let dump = master.ask("dump");
    assert!(dump["workers"][0]["text"].as_str().unwrap().contains("hub 2: its hub has not turned"), "{dump}");
}
