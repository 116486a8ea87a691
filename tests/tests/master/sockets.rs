//! Where a master listens.

use std::collections::HashSet;

use greenserve_tests::{Load, PATIENCE, ServerProcess, eventually};

use crate::nothing_was_lost;

#[test]
fn with_reuse_port_each_worker_has_a_socket_that_its_successor_gets() {
    let server = ServerProcess::start(["demo", "-w", "3", "--reuse-port"]);
    let before = server.wait_for_workers(3);
    let own = |pid: u32| -> HashSet<String> {
        sockets(pid).intersection(&sockets(server.pid())).cloned().collect()
    };
    let mut seen = HashSet::new();
    for pid in &before {
        let own = own(*pid);
        assert_eq!(own.len(), 1, "one listener of the master's");
        assert!(seen.insert(own.into_iter().next()), "and nobody else's");
    }
    let loads = Load::both(server.addr(), 6);
    loads.iter().for_each(|load| load.wait_for(50));
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || {
        let now = server.children();
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    loads.iter().for_each(|load| load.wait_for(50));
    nothing_was_lost(loads);
    for pid in server.children() {
        assert!(seen.remove(&own(pid).into_iter().next()), "the same three sockets");
    }
}

/// The TCP sockets that a process has open and listens on.
fn sockets(pid: u32) -> HashSet<String> {
    let listening: HashSet<String> = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))
        .unwrap_or_default()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(3) == Some(&"0A"))
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    open.map(|target| target.to_string_lossy().into_owned()).filter(|name| listening.contains(name)).collect()
}
