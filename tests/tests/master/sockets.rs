//! Where a master listens.

use std::collections::HashSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use greenserve_tests::{Client, Load, PATIENCE, Scratch, ServerProcess, eventually, send_signal};

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

#[test]
fn over_a_unix_socket_a_reload_and_a_new_number_of_workers_lose_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let server = on_unix(&path);
    let loads = Load::both(&*path, 6);
    for signal in [libc::SIGHUP, libc::SIGTTIN, libc::SIGHUP, libc::SIGTTOU] {
        let before = server.children();
        server.signal(signal);
        let count = match signal {
            libc::SIGTTIN => 3,
            _ => 2,
        };
        eventually(PATIENCE, || {
            let now = server.children();
            now.len() == count && (signal != libc::SIGHUP || now.iter().all(|pid| !before.contains(pid)))
        });
        loads.iter().for_each(|load| load.wait_for(30));
    }
    nothing_was_lost(loads);
}

#[test]
fn over_a_unix_socket_a_stop_loses_nothing() {
    for workers in ["0", "2"] {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let bind = format!("unix:{}", path.display());
        let mut server = ServerProcess::builder().args(["demo", "-w", workers]).bind(bind).start();
        let loads = Load::both(&*path, 6);
        loads.iter().for_each(|load| load.wait_for(50));
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit().success());
        nothing_was_lost(loads);
        assert!(!path.exists());
    }
}

#[test]
fn a_new_master_removes_the_unix_sockets_file_in_the_end() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let mut server = on_unix(&path);
    let loads = Load::both(&*path, 4);
    server.signal(libc::SIGUSR2);
    let line = server.wait_for_log("Started a new master, process ");
    let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    server.wait_for_log(&format!("[{new}] [INFO] All 2 workers are ready"));
    server.signal(libc::SIGTERM);
    server.wait_for_log("The old master is gone");
    loads.iter().for_each(|load| load.wait_for(30));
    nothing_was_lost(loads);
    send_signal(new, libc::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(!path.exists());
}

fn on_unix(path: &Path) -> ServerProcess {
    let bind = format!("unix:{}", path.display());
    let server = ServerProcess::builder().args(["demo", "-w", "2"]).bind(bind).start();
    server.wait_for_workers(2);
    server
}

#[test]
fn an_abstract_name_passes_on_to_a_new_master() {
    let name = format!("greenserve-test-{}", std::process::id());
    let bind = format!("unix:@{name}");
    let mut server = ServerProcess::builder().args(["demo", "-w", "2"]).bind(&bind).start();
    assert_eq!(server.listening(), [bind]);
    server.wait_for_workers(2);
    let ask = || {
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        Client::over_unix(UnixStream::connect_addr(&addr).unwrap()).get("/plaintext").status
    };
    assert_eq!(ask(), 200);
    server.signal(libc::SIGUSR2);
    let line = server.wait_for_log("Started a new master, process ");
    let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    server.wait_for_log(&format!("[{new}] [INFO] All 2 workers are ready"));
    server.signal(libc::SIGTERM);
    server.wait_for_log("The old master is gone");
    assert_eq!(ask(), 200);
    send_signal(new, libc::SIGTERM);
    assert!(server.wait_exit().success());
}

#[test]
fn every_ipv6_and_every_ipv4_address_can_be_had_on_one_port() {
    // A machine without IPv6.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let free = || std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
    for workers in ["0", "1"] {
        let port = free();
        let all = ["[::]", "0.0.0.0"].map(|host| format!("{host}:{port}"));
        let server =
            ServerProcess::builder().args(["demo", "-w", workers]).bind(&all[0]).bind(&all[1]).start();
        assert_eq!(server.listening(), all.map(|at| format!("http://{at}")));
        for at in [format!("[::1]:{port}"), format!("127.0.0.1:{port}")] {
            assert_eq!(Client::tcp(at.parse().unwrap()).get("/plaintext").status, 200);
        }
        drop(server);
        // Alone it is for both.
        let port = free();
        let _server =
            ServerProcess::builder().args(["demo", "-w", workers]).bind(format!("[::]:{port}")).start();
        let at = format!("127.0.0.1:{port}");
        assert_eq!(Client::tcp(at.parse().unwrap()).get("/plaintext").status, 200);
    }
}

#[test]
fn a_backlog_that_the_kernel_does_not_keep_is_warned_of() {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: u32 = most.trim().parse().unwrap();
    for workers in ["0", "1"] {
        let server = ServerProcess::start(["demo", "-w", workers, "--backlog", "65535"]);
        assert_eq!(server.log().contains("net.core.somaxconn"), most < 65_535, "{}", server.log());
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
