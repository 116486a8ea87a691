//! What a master's signals do, while clients keep asking (gunicorn's "Signal Handling").

use std::fs;

use greenserve_tests::{
    Client, Load, PATIENCE, Scratch, ServerProcess, children_of, eventually, send_signal,
};

use crate::nothing_was_lost;

fn start(workers: usize, args: &[&str]) -> ServerProcess {
    let workers = workers.to_string();
    ServerProcess::start(["demo", "-w", &workers].into_iter().chain(args.iter().copied()))
}

#[test]
fn hup_replaces_every_worker_and_loses_nothing() {
    let server = start(3, &[]);
    let before = server.wait_for_workers(3);
    let loads = Load::both(server.addr(), 6);
    for _ in 0..2 {
        let before = server.children();
        server.signal(libc::SIGHUP);
        eventually(PATIENCE, || {
            let now = server.children();
            now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
        });
        loads.iter().for_each(|load| load.wait_for(50));
    }
    nothing_was_lost(loads);
    assert!(before.iter().all(|pid| !server.children().contains(pid)));
}

#[test]
fn hup_lets_old_workers_serve_until_new_ones_do() {
    let server = start(2, &[]);
    let before = server.wait_for_workers(2);
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().iter().all(|pid| !before.contains(pid)));
    // In the order of the log: each exit comes after the boot of the one that takes its place.
    let log = server.log();
    let after = log.split("Hang up").nth(1).expect("the reload");
    let (mut booted, mut left) = (0, 0);
    for line in after.lines() {
        booted += usize::from(line.contains("Booting worker"));
        left += usize::from(line.contains("Worker exited"));
        assert!(left <= booted, "{log}");
    }
    assert_eq!((booted, left), (2, 2), "{log}");
}

#[test]
fn hup_loads_the_settings_file_again_and_a_bad_one_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.path().join("settings.toml");
    fs::write(&file, "workers = 1\n").unwrap();
    let server = ServerProcess::builder()
        .without_worker_count()
        .args(["demo", "--config", file.to_str().unwrap()])
        .start();
    let first = server.wait_for_workers(1);
    let loads = Load::both(server.addr(), 2);

    fs::write(&file, "workers = 2\n").unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().len() == 2 && !server.children().contains(&first[0]));

    let second = server.children();
    fs::write(&file, "workers = 'lots'\n").unwrap();
    server.signal(libc::SIGHUP);
    let line = server.wait_for_log("not loaded again");
    assert!(line.contains("line 1") && line.contains("lots"), "{line}");
    assert_eq!(server.children(), second);

    loads.iter().for_each(|load| load.wait_for(20));
    nothing_was_lost(loads);
}

#[test]
fn hup_listens_where_the_settings_say_now() {
    let scratch = Scratch::new();
    let (file, old, new) =
        (scratch.path().join("settings.toml"), scratch.path().join("old"), scratch.path().join("new"));
    let bind = |path: &std::path::Path| format!("workers = 1\nbind = 'unix:{}'\n", path.display());
    fs::write(&file, bind(&old)).unwrap();
    let server = ServerProcess::builder()
        .without_worker_count()
        .bind_by_settings()
        .args(["demo", "--config", file.to_str().unwrap()])
        .start();
    server.wait_for_workers(1);
    assert_eq!(Client::unix(&old).get("/plaintext").status, 200);
    fs::write(&file, bind(&new)).unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || new.exists() && !old.exists());
    eventually(PATIENCE, || server.log().matches("Booting worker").count() == 2);
    assert_eq!(Client::unix(&new).get("/plaintext").status, 200);
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers_and_lose_nothing() {
    let server = start(2, &[]);
    server.wait_for_workers(2);
    let loads = Load::both(server.addr(), 4);
    for (signal, count) in [(libc::SIGTTIN, 3), (libc::SIGTTIN, 4), (libc::SIGTTOU, 3), (libc::SIGTTOU, 2)] {
        server.signal(signal);
        eventually(PATIENCE, || server.children().len() == count);
        loads.iter().for_each(|load| load.wait_for(20));
    }
    nothing_was_lost(loads);
}

#[test]
fn ttou_leaves_one_worker() {
    let server = start(1, &[]);
    let before = server.wait_for_workers(1);
    server.signal(libc::SIGTTOU);
    server.wait_for_log("Handling signal: ttou");
    assert_eq!(server.get("/plaintext").status, 200);
    assert_eq!(server.children(), before);
}

#[test]
fn usr1_opens_the_logs_again_in_master_and_workers() {
    let scratch = Scratch::new();
    let (error, access) = (scratch.path().join("error"), scratch.path().join("access"));
    let log = error.to_str().unwrap();
    let server = ServerProcess::builder()
        .args(["demo", "-w", "2", "--access-logfile", access.to_str().unwrap(), "--error-logfile", log])
        .listening_in(&error)
        .start();
    let contains = |path: &std::path::Path, text: &str| {
        fs::read_to_string(path).is_ok_and(|content| content.contains(text))
    };
    eventually(PATIENCE, || contains(&error, "All 2 workers are ready"));
    server.get("/plaintext?first");
    eventually(PATIENCE, || contains(&access, "?first"));
    for path in [&error, &access] {
        fs::rename(path, path.with_extension("1")).unwrap();
    }
    server.signal(libc::SIGUSR1);
    eventually(PATIENCE, || error.exists() && access.exists());
    // Both workers write to the new file, once they have heard of it.
    eventually(PATIENCE, || {
        (0..8).for_each(|_| drop(server.get("/plaintext?second")));
        contains(&access, "?second")
    });
    assert!(!contains(&access, "?first"));
    server.signal(libc::SIGTTIN);
    eventually(PATIENCE, || contains(&error, "Handling signal: ttin"));
}

#[test]
fn usr2_starts_a_new_master_on_the_same_sockets_and_the_old_one_goes_without_loss() {
    let scratch = Scratch::new();
    let pid_file = scratch.path().join("pid");
    let mut server = start(2, &["--pid", pid_file.to_str().unwrap()]);
    server.wait_for_workers(2);
    let old = server.pid().to_string();
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), old);
    let loads = Load::both(server.addr(), 4);
    let new = upgrade(&server);
    assert_eq!(fs::read_to_string(pid_file.with_extension("2")).unwrap().trim(), new.to_string());
    assert_eq!(fs::read_to_string(&pid_file).unwrap().trim(), old);
    server.signal(libc::SIGTERM);
    server.wait_for_log("The old master is gone");
    loads.iter().for_each(|load| load.wait_for(50));
    nothing_was_lost(loads);
    eventually(PATIENCE, || fs::read_to_string(&pid_file).is_ok_and(|pid| pid.trim() == new.to_string()));
    assert!(!pid_file.with_extension("2").exists());
    // It holds the log's pipe: the old one's end shows when both are gone.
    send_signal(new, libc::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(!pid_file.exists());
}

#[test]
fn usr2_can_be_taken_back_without_loss() {
    let server = start(2, &[]);
    let before = server.wait_for_workers(2);
    let loads = Load::both(server.addr(), 4);
    let new = upgrade(&server);
    // gunicorn's way: the old workers rest, then serve again.
    server.signal(libc::SIGWINCH);
    eventually(PATIENCE, || server.children() == [new]);
    loads.iter().for_each(|load| load.wait_for(30));
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().len() == 3);
    send_signal(new, libc::SIGTERM);
    eventually(PATIENCE, || server.children().len() == 2);
    loads.iter().for_each(|load| load.wait_for(30));
    nothing_was_lost(loads);
    assert!(server.children().iter().all(|pid| !before.contains(pid)));
    assert_eq!(server.get("/plaintext").status, 200);
}

/// Has a new master started, waits until its workers serve, and gives its process id.
fn upgrade(server: &ServerProcess) -> u32 {
    let before = server.children();
    server.signal(libc::SIGUSR2);
    let line = server.wait_for_log("Started a new master, process ");
    let new = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    assert!(!before.contains(&new));
    eventually(PATIENCE, || children_of(new).len() == 2);
    let ready = format!("[{new}] [INFO] All 2 workers are ready");
    server.wait_for_log(&ready);
    new
}
