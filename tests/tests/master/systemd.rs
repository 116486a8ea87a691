//! What systemd gives a service and is told by it. The test is the service manager.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use greenserve_tests::{
    Client, Load, Manager, PATIENCE, Scratch, ServerBuilder, ServerProcess, children_of, eventually,
    send_signal,
};

use crate::nothing_was_lost;

/// Two sockets, as a service manager opens them, and a server that is going to get them under these names.
fn activated(names: &str) -> (ServerBuilder, [TcpListener; 2]) {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let passed = sockets.each_ref().map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
    let server = ServerProcess::builder()
        .after(format!("export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES={names}"))
        .passing(passed);
    (server, sockets)
}

fn addr(socket: &TcpListener) -> SocketAddr {
    socket.local_addr().unwrap()
}

fn listening(sockets: &[&TcpListener]) -> Vec<String> {
    sockets.iter().map(|socket| format!("http://{}", addr(socket))).collect()
}

#[test]
fn sockets_that_were_passed_take_the_place_of_bind() {
    for workers in ["0", "2"] {
        let (server, [a, b]) = activated("a:b");
        let server = server.args(["demo", "-w", workers]).start();
        assert_eq!(server.listening(), listening(&[&a, &b]), "-w {workers}");
        for socket in [a, b] {
            assert_eq!(Client::tcp(addr(&socket)).get("/plaintext").status, 200, "-w {workers}");
        }
    }
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = ServerProcess::builder()
        .after("export LISTEN_PID=1 LISTEN_FDS=1")
        .passing([OwnedFd::from(socket.try_clone().unwrap())])
        .args(["demo"])
        .start();
    assert_ne!(server.addr(), addr(&socket));
}

#[test]
fn bind_can_choose_among_the_sockets_by_name_and_number() {
    for workers in ["0", "1"] {
        let (server, [_, b]) = activated("a:b");
        let server = server.args(["demo", "-w", workers]).bind("fd://b").bind("127.0.0.1:0").start();
        assert_eq!(server.listening()[0], listening(&[&b])[0]);
        assert_eq!(server.listening().len(), 2);
        assert_eq!(Client::tcp(addr(&b)).get("/plaintext").status, 200);
        let (server, [a, b]) = activated("both:both");
        let server = server.args(["demo", "-w", workers]).bind("fd://both").bind("127.0.0.1:0").start();
        assert_eq!(server.listening()[..2], listening(&[&a, &b]));
        let (server, [_, b]) = activated("a:b");
        let server = server.args(["demo", "-w", workers]).bind("fd://4").start();
        assert_eq!(server.listening(), listening(&[&b]));
    }
}

#[test]
fn what_is_passed_survives_the_servers_stop_and_nothing_is_lost() {
    for (workers, bind) in [("0", None), ("2", None), ("0", Some("fd://a")), ("2", Some("fd://a"))] {
        let (first, sockets) = activated("a:b");
        let mut first = first.args(["demo", "-w", workers]);
        if let Some(bind) = bind {
            first = first.bind(bind);
        }
        let mut first = first.start();
        let loads = Load::both(addr(&sockets[0]), 3);
        loads.iter().for_each(|load| load.wait_for(20));
        first.signal(libc::SIGTERM);
        assert!(first.wait_exit().success());
        // Clients connect meanwhile, to a socket that nobody accepts on.
        let passed = sockets.each_ref().map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        let _second = ServerProcess::builder()
            .after("export LISTEN_PID=$$ LISTEN_FDS=2")
            .passing(passed)
            .args(["demo", "-w", workers])
            .start();
        loads.iter().for_each(|load| load.wait_for(20));
        nothing_was_lost(loads);
    }
}

#[test]
fn a_new_master_gets_the_sockets_that_were_passed() {
    for bind in [None, Some("fd://a")] {
        let (server, [a, _]) = activated("a:b");
        let server = server.args(["demo", "-w", "2"]);
        let mut server = match bind {
            Some(bind) => server.bind(bind),
            None => server,
        }
        .start();
        server.wait_for_workers(2);
        let loads = Load::both(addr(&a), 3);
        let new = upgrade(&server);
        server.signal(libc::SIGTERM);
        server.wait_for_log("The old master is gone");
        loads.iter().for_each(|load| load.wait_for(30));
        nothing_was_lost(loads);
        send_signal(new, libc::SIGTERM);
        assert!(server.wait_exit().success());
        // It is ours, and still listens.
        std::net::TcpStream::connect(addr(&a)).unwrap();
    }
}

/// Has a new master started, and waits until its workers serve.
fn upgrade(server: &ServerProcess) -> u32 {
    server.signal(libc::SIGUSR2);
    let line = server.wait_for_log("Started a new master, process ");
    let new = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    eventually(PATIENCE, || children_of(new).len() == 2);
    server.wait_for_log(&format!("[{new}] [INFO] All 2 workers are ready"));
    new
}

fn told(manager: &Manager, args: &[&str]) -> ServerProcess {
    ServerProcess::builder().env("NOTIFY_SOCKET", manager.name()).args(args.iter().copied()).start()
}

#[test]
fn systemd_hears_of_beginning_reload_and_end() {
    let scratch = Scratch::new();
    for manager in [Manager::at(&scratch.join("notify")), Manager::named()] {
        let mut server = told(&manager, &["demo", "-w", "2"]);
        assert_eq!(manager.news(), "READY=1\nSTATUS=2 workers serve");
        // The master has written it by now; whoever collects the log may not have read it.
        server.wait_for_log("All 2 workers are ready");
        assert_eq!(server.children().len(), 2);
        server.signal(libc::SIGHUP);
        let reloading = manager.news();
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        let micros: u64 = since.split('\n').next().unwrap().parse().unwrap();
        // The machine's clock since its start; the reload was asked for within the patience of this test.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let now: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let seconds = micros as f64 / 1e6;
        assert!(seconds <= now + 1.0 && seconds + PATIENCE.as_secs_f64() > now, "{seconds} {now}");
        assert_eq!(manager.news(), "READY=1\nSTATUS=2 workers serve");
        server.signal(libc::SIGTERM);
        assert_eq!(manager.news().lines().next(), Some("STOPPING=1"));
        assert!(server.wait_exit().success());
        assert_eq!(manager.next(Duration::from_millis(10)), None);
    }
}

#[test]
fn systemd_hears_of_a_server_without_a_master() {
    for class in ["green", "threads"] {
        let manager = Manager::named();
        let mut server = ServerProcess::builder()
            .env("NOTIFY_SOCKET", manager.name())
            .env("WATCHDOG_USEC", "2000000")
            .args(["demo", "-k", class])
            .start();
        assert!(manager.news().starts_with("READY=1\n"));
        (0..2).for_each(|_| assert_eq!(manager.next(PATIENCE).as_deref(), Some("WATCHDOG=1")));
        server.signal(libc::SIGTERM);
        assert_eq!(manager.news().lines().next(), Some("STOPPING=1"));
        assert!(server.wait_exit().success());
    }
}

#[test]
fn of_two_masters_systemd_hears_the_old_one_until_it_names_the_new_one() {
    let manager = Manager::named();
    let mut server = ServerProcess::builder()
        .env("NOTIFY_SOCKET", manager.name())
        .env("WATCHDOG_USEC", "1000000")
        .after("export WATCHDOG_PID=$$")
        .args(["demo", "-w", "2"])
        .start();
    assert!(manager.news().starts_with("READY=1\n"));
    let new = upgrade(&server);
    server.signal(libc::SIGTERM);
    assert_eq!(manager.news().lines().next(), Some(&*format!("MAINPID={new}")), "from the old one");
    assert_eq!(manager.news(), format!("MAINPID={new}\nREADY=1\nSTATUS=2 workers serve"), "from itself");
    server.wait_for_log("The old master is gone");
    // It is watched from now on.
    eventually(PATIENCE, || manager.next(PATIENCE).as_deref() == Some("WATCHDOG=1"));
    send_signal(new, libc::SIGTERM);
    assert_eq!(manager.news().lines().next(), Some("STOPPING=1"));
    assert!(server.wait_exit().success());
}

#[test]
fn a_new_master_that_is_taken_back_tells_systemd_nothing() {
    let manager = Manager::named();
    let mut server = told(&manager, &["demo", "-w", "2"]);
    assert!(manager.news().starts_with("READY=1\n"));
    let new = upgrade(&server);
    send_signal(new, libc::SIGTERM);
    server.wait_for_log(&format!("The new master, process {new}, has ended"));
    server.signal(libc::SIGTERM);
    assert_eq!(manager.news().lines().next(), Some("STOPPING=1"), "of the old one");
    assert!(server.wait_exit().success());
}

#[test]
fn the_watchdog_hears_from_a_master_again_and_again() {
    let manager = Manager::named();
    let mut server = ServerProcess::builder()
        .env("NOTIFY_SOCKET", manager.name())
        .env("WATCHDOG_USEC", "200000")
        .args(["demo", "-w", "1"])
        .start();
    assert!(manager.news().starts_with("READY=1\n"));
    (0..5).for_each(|_| assert_eq!(manager.next(PATIENCE).as_deref(), Some("WATCHDOG=1")));
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
}
