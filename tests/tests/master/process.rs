//! The process as others see it: its name, folder, environment, and whether it has a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use greenserve_tests::{
    Binary, Client, PATIENCE, Scratch, ServerProcess, eventually, eventually_some, send_signal,
};

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned()
}

fn folder(pid: u32) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{pid}/cwd")).unwrap()
}

#[test]
fn master_and_workers_have_names() {
    let scratch = Scratch::new();
    let file = scratch.write("settings.toml", "loglevel = 'debug'\nworkers = 1\n");
    let server =
        ServerProcess::builder().without_worker_count().args(["demo", "-c", file.to_str().unwrap()]).start();
    let worker = server.wait_for_workers(1)[0];
    if server.log().contains("can't name this process") {
        eprintln!("NOT CHECKED: the kernel does not allow names");
        return;
    }
    assert_eq!(command_line(server.pid()), "greenserve: master [demo]");
    assert_eq!(command_line(worker), "greenserve: worker [demo]");

    // SIGHUP changes them; the program is still known by its own name otherwise.
    fs::write(&file, "loglevel = 'debug'\nworkers = 1\nproc_name = 'shop'\n").unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || command_line(server.pid()) == "greenserve: master [shop]");
    let named = |pid: &u32| command_line(*pid) == "greenserve: worker [shop]";
    eventually(PATIENCE, || server.children().len() == 1 && server.children().iter().all(named));
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", server.pid())).unwrap(), "shop\n");
}

#[test]
fn a_process_without_a_master_has_a_name_if_it_is_given_one() {
    let server = ServerProcess::start(["demo", "-n", "shop", "--log-level", "debug"]);
    if !server.log().contains("can't name this process") {
        assert_eq!(command_line(server.pid()), "greenserve: shop");
    }
    let server = ServerProcess::start(["demo"]);
    assert!(command_line(server.pid()).contains("demo\0"), "{}", command_line(server.pid()));
}

#[test]
fn everything_but_the_settings_file_is_looked_for_in_the_folder_of_chdir() {
    let scratch = Scratch::new();
    let start = scratch.join("start");
    scratch.write("start/greenserve.toml", "workers = 1\nchdir = '../files'\npidfile = 'pid'\n");
    scratch.write("files/public/a", "found");
    // Started by a shell there, so that the settings file is found.
    let script = format!("cd '{}' && exec \"$0\" \"$@\"", start.display());
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(&script)
        .arg(Binary::path())
        .args(["static:public", "-b", "127.0.0.1:0", "--error-logfile", "log"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let log = scratch.join("files/log");
    let address = eventually_some(PATIENCE, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("workers are ready").then_some(())?;
        Some(text.split_once("http://")?.1.split(' ').next()?.to_owned())
    });
    assert_eq!(Client::tcp(address.parse().unwrap()).get("/a").text(), "found");
    assert_eq!(folder(child.id()), scratch.path().canonicalize().unwrap().join("files"));
    assert!(scratch.join("files/pid").exists());

    // The settings file is still found, and what can't be changed is named and stays.
    let text = "workers = 1\nchdir = '/'\npidfile = 'pid'\nbacklog = 7\n";
    fs::write(start.join("greenserve.toml"), text).unwrap();
    send_signal(child.id(), libc::SIGHUP);
    let line = eventually_some(PATIENCE, || {
        let text = fs::read_to_string(&log).unwrap();
        text.contains("Hang up").then_some(())?;
        Some(text.lines().find(|line| line.contains("waits for a restart"))?.to_owned())
    });
    assert!(line.contains("chdir") && line.contains("SIGUSR2"), "{line}");
    assert_eq!(Client::tcp(address.parse().unwrap()).get("/a").text(), "found");
    send_signal(child.id(), libc::SIGTERM);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_variable_of_env_is_in_the_environment_and_is_no_setting() {
    // What std looks for when something panics.
    let args = ["demo", "-e", "RUST_BACKTRACE=1", "--env=WEB_CONCURRENCY=3"];
    let server =
        ServerProcess::builder().env("RUST_BACKTRACE", "0").without_worker_count().args(args).start();
    server.wait_for_workers(1);
    server.get("/panic");
    server.wait_for_log("the demo panics");
    server.wait_for_log("   0: ");
    server.signal(libc::SIGHUP);
    let after = eventually_some(PATIENCE, || {
        let log = server.log();
        let (_, after) = log.split_once("Hang up")?;
        after.lines().find(|line| line.contains("workers are ready")).map(str::to_owned)
    });
    assert!(after.contains("All 1 workers"), "{after}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    for args in [&["--chdir", "/no/such"][..], &["--check-config", "--chdir", "/no/such"]] {
        let output = Binary::run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("--chdir") && text.contains("/no/such"), "{text}");
    }
}

/// Ends a daemon at the end of a test, whatever becomes of it.
struct Daemon(u32);

impl Drop for Daemon {
    fn drop(&mut self) {
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            send_signal(self.0, libc::SIGTERM);
        }
    }
}

#[test]
fn a_daemon_serves_when_the_program_that_was_started_has_ended_well() {
    for workers in ["0", "2"] {
        let scratch = Scratch::new();
        let (pid, log, socket) = (scratch.join("pid"), scratch.join("log"), scratch.join("s"));
        let bind = format!("unix:{}", socket.display());
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let args =
            ["demo", "-D", "-w", workers, "-b", &bind, "-p", &text(&pid), "--error-logfile", &text(&log)];
        // This returns when standard output and error are closed, too.
        let output = Binary::run(&args);
        assert!(output.status.success(), "{output:?}");
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{output:?}");
        let serving = eventually_some(PATIENCE, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let number =
                text.split_once("Listening at: ")?.1.split_once('(')?.1.split_once(')')?.0.parse().ok();
            number.map(Daemon)
        });
        assert_eq!(Client::unix(&socket).get("/").status, 200);
        if workers != "0" {
            assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{}\n", serving.0));
        }
        // Fields behind the name: state, parent, group, session, terminal (proc_pid_stat(5)).
        let stat = fs::read_to_string(format!("/proc/{}/stat", serving.0)).unwrap();
        let fields: Vec<i64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(1)
            .map_while(|n| n.parse().ok())
            .collect();
        assert_ne!(fields[2], i64::from(serving.0), "it leads its session, and could get a terminal");
        assert_eq!(fields[3], 0, "it has a terminal");
        for descriptor in 0..3 {
            let target = fs::read_link(format!("/proc/{}/fd/{descriptor}", serving.0)).unwrap();
            assert_eq!(target, Path::new("/dev/null"));
        }
        send_signal(serving.0, libc::SIGTERM);
        eventually(PATIENCE, || !socket.exists() && !pid.exists());
        eventually(PATIENCE, || fs::read_to_string(&log).unwrap().contains("Shutting down"));
    }
}

#[test]
fn a_daemon_that_inherits_them_keeps_standard_output_and_error() {
    let scratch = Scratch::new();
    let (out, err, socket) = (scratch.join("out"), scratch.join("err"), scratch.join("s"));
    let file = |path: &Path| fs::File::create(path).unwrap();
    let bind = format!("unix:{}", socket.display());
    let mut command = Binary::command();
    command.args(["demo", "-D", "-R", "-w", "1", "-b", &bind, "--access-logfile", "-"]);
    let status = command.stdout(file(&out)).stderr(file(&err)).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(&err).unwrap());
    let log = fs::read_to_string(&err).unwrap();
    let pid = log.split_once("Listening at: ").and_then(|(_, rest)| rest.split_once('(')?.1.split_once(')'));
    let serving = Daemon(pid.expect("where it listens").0.parse().unwrap());
    assert_eq!(Client::unix(&socket).get("/plaintext").status, 200);
    eventually(PATIENCE, || fs::read_to_string(&out).unwrap().contains("GET /plaintext"));
    assert!(!log.contains("nothing is logged"), "{log}");
    let of = |descriptor: i32| fs::read_link(format!("/proc/{}/fd/{descriptor}", serving.0)).unwrap();
    assert_eq!([of(0), of(1), of(2)], [Path::new("/dev/null"), &out, &err]);
    send_signal(serving.0, libc::SIGTERM);
    eventually(PATIENCE, || fs::read_to_string(&err).unwrap().contains("Shutting down"));
}

#[test]
fn a_daemon_that_cannot_listen_says_so_and_fails() {
    let taken = ServerProcess::start(["demo"]);
    let address = taken.addr().to_string();
    for workers in ["0", "1"] {
        let output = Binary::run(&["demo", "-D", "-w", workers, "-b", &address]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("Error: can't listen on") && text.contains(&address), "{text}");
    }
}

#[test]
fn a_daemon_in_another_folder_is_followed_by_one_that_was_started_as_it_was() {
    let scratch = Scratch::new();
    scratch.write(
        "greenserve.toml",
        "workers = 1\ndaemon = true\nchdir = 'there'\npidfile = 'pid'\nerrorlog = 'log'\n",
    );
    scratch.write("there/log", "");
    let (pid, socket) = (scratch.join("there/pid"), scratch.join("s"));
    let bind = format!("unix:{}", socket.display());
    let mut command = Binary::command();
    let status =
        command.args(["demo", "-e", "MINE=1", "-b", &bind]).current_dir(scratch.path()).status().unwrap();
    assert!(status.success());
    let read = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let old = Daemon(read(&pid).unwrap());
    let log = || fs::read_to_string(scratch.join("there/log")).unwrap();
    eventually(PATIENCE, || log().contains("workers are ready"));
    send_signal(old.0, libc::SIGUSR2);
    let new = Daemon(eventually_some(PATIENCE, || read(&scratch.join("there/pid.2"))));
    eventually(PATIENCE, || log().matches("workers are ready").count() == 2);
    let environment = fs::read_to_string(format!("/proc/{}/environ", new.0)).unwrap();
    assert!(!environment.split('\0').any(|variable| variable == "MINE=1"), "{environment}");
    assert_eq!(folder(new.0), folder(old.0));
    send_signal(old.0, libc::SIGTERM);
    eventually(PATIENCE, || read(&pid) == Some(new.0));
    assert_eq!(Client::unix(&socket).get("/").status, 200);
    send_signal(new.0, libc::SIGTERM);
    eventually(PATIENCE, || !pid.exists());
}
