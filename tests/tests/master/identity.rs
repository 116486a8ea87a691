//! As whom workers serve. Only root can change that.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use greenserve_tests::{Binary, Client, PATIENCE, Scratch, ServerProcess, eventually, send_signal};

const NOBODY: u32 = 65534;

/// Whether this can be tested; says so if not.
fn can_change() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("NOT CHECKED: only root can serve as another user");
    }
    is_root
}

/// What the kernel says of a process: real, effective, saved and file system's user, the same of the group, and its other groups.
fn identity(pid: u32) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let numbers = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().map(|number| number.parse().unwrap()).collect::<Vec<u32>>()
    };
    (numbers("Uid:"), numbers("Gid:"), numbers("Groups:"))
}

fn is_nobody(pid: u32) {
    assert_eq!(identity(pid), (vec![NOBODY; 4], vec![NOBODY; 4], vec![NOBODY]));
}

/// A folder that everybody may go through, but not write.
fn open_scratch() -> Scratch {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    scratch
}

#[test]
fn workers_serve_as_the_user_and_the_master_stays_root() {
    if !can_change() {
        return;
    }
    let scratch = open_scratch();
    let (socket, log) = (scratch.join("s"), scratch.join("access"));
    let server = ServerProcess::builder()
        .args(["demo", "-w", "2", "--user", "nobody", "--umask", "027", "--access-logfile"])
        .args([log.as_os_str()])
        .bind("127.0.0.1:0")
        .bind(format!("unix:{}", socket.display()))
        .start();
    for pid in server.wait_for_workers(2) {
        is_nobody(pid);
    }
    assert_eq!(identity(server.pid()).0, [0; 4]);
    let of_socket = fs::metadata(&socket).unwrap();
    assert_eq!((of_socket.uid(), of_socket.gid(), of_socket.mode() & 0o777), (NOBODY, NOBODY, 0o750));
    assert_eq!(Client::unix(&socket).get("/").status, 200);
    assert_eq!(fs::metadata(&log).unwrap().uid(), NOBODY);

    // The master makes the new file, and the workers can open it, too.
    fs::rename(&log, scratch.join("access.1")).unwrap();
    server.signal(libc::SIGUSR1);
    eventually(PATIENCE, || fs::metadata(&log).is_ok_and(|found| found.uid() == NOBODY));
    eventually(PATIENCE, || {
        server.get("/after");
        fs::read_to_string(&log).unwrap().contains("/after")
    });
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn hup_changes_the_user() {
    if !can_change() {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.write("settings.toml", "workers = 1\n");
    let server = ServerProcess::builder()
        .without_worker_count()
        .args(["demo", "--config", file.to_str().unwrap()])
        .start();
    let first = server.wait_for_workers(1)[0];
    assert_eq!(identity(first).0, [0; 4]);
    fs::write(&file, "workers = 1\nuser = 'nobody'\ninitgroups = true\n").unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().len() == 1 && server.children()[0] != first);
    server.wait_for_log("Worker exited");
    let second = server.children()[0];
    eventually(PATIENCE, || identity(second).0 == [NOBODY; 4]);
    server.get("/");

    fs::write(&file, "workers = 1\nuser = 'no-such-user'\n").unwrap();
    server.signal(libc::SIGHUP);
    let line = server.wait_for_log("not loaded again");
    assert!(line.contains("no-such-user"), "{line}");
    assert_eq!(server.children(), [second]);
}

#[test]
fn without_a_master_the_process_itself_changes() {
    if !can_change() {
        return;
    }
    let server = ServerProcess::start(["demo", "-u", "65534", "-g", "65534", "-k", "threads"]);
    assert_eq!(server.get("/").status, 200);
    is_nobody(server.pid());
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let task = task.unwrap().file_name().into_string().unwrap();
        is_nobody(task.parse().unwrap());
    }
}

#[test]
fn who_is_not_root_can_serve_only_as_who_it_is() {
    if !can_change() {
        return;
    }
    use std::os::unix::process::CommandExt;
    let refused = |args: &[&str]| {
        let output =
            Binary::command().uid(NOBODY).gid(NOBODY).arg("--check-config").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = refused(&["-u", "root"]);
    assert!(code == Some(1) && text.contains("only root can serve as another user"), "{code:?} {text}");
    let (code, text) = refused(&["-u", "nobody"]);
    assert_eq!((code, text.as_str()), (Some(0), ""));
    let (code, text) = refused(&["-u", "no-such-user"]);
    assert!(code == Some(1) && text.contains("no-such-user"), "{code:?} {text}");
}

#[test]
fn everybody_may_connect_to_a_unix_socket_unless_the_umask_says_otherwise() {
    let scratch = Scratch::new();
    for (umask, mode) in [(None, 0o777), (Some("--umask=0077"), 0o700)] {
        let socket = scratch.join("s");
        let server = ServerProcess::builder()
            .args(["demo", "-w", "1"])
            .args(umask)
            .bind(format!("unix:{}", socket.display()))
            .start();
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, mode);
        send_signal(server.pid(), libc::SIGTERM);
        eventually(PATIENCE, || !socket.exists());
    }
}
