//! The control socket and `greenserve ctl`: an operator's commands to a live master.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Output;

use greenserve_tests::{
    Binary, Load, PATIENCE, Scratch, ServerProcess, children_of, eventually, eventually_some, request,
    send_signal,
};
use serde_json::{Value, json};

use crate::nothing_was_lost;

/// A master with a control socket of its own.
pub(crate) struct Master {
    pub(crate) server: ServerProcess,
    scratch: Scratch,
}

impl Master {
    pub(crate) fn start(workers: usize, args: &[&str]) -> Master {
        let scratch = Scratch::new();
        let (workers, path) = (workers.to_string(), scratch.join("ctl"));
        let own = ["demo", "-w", &workers, "--control-socket", path.to_str().unwrap()];
        let server = ServerProcess::start(own.into_iter().chain(args.iter().copied()));
        let master = Master { server, scratch };
        master.server.wait_for_workers(workers.parse().unwrap());
        master.server.wait_for_log("workers are ready");
        master
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("ctl")
    }

    pub(crate) fn ctl(&self, words: &str) -> Output {
        ctl(&self.socket(), words)
    }

    /// The data of an answer.
    #[track_caller]
    pub(crate) fn ask(&self, words: &str) -> Value {
        let output = self.ctl(&format!("{words} -j"));
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// A session by hand.
    fn session(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.socket()).expect("the control socket");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }
}

fn ctl(socket: &Path, words: &str) -> Output {
    let args = ["ctl", "-s", socket.to_str().unwrap()];
    Binary::run(&args.into_iter().chain(words.split_whitespace()).collect::<Vec<_>>())
}

fn line(session: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    session.read_line(&mut line).expect("an answer");
    line
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_shown_has_the_keys_that_programs_rely_on() {
    let master = Master::start(2, &[]);
    let mut client = master.server.connect();
    client.get("/plaintext");
    let workers = master.ask("show workers");
    assert_eq!(keys(&workers), ["count", "workers"]);
    let of_worker =
        ["aborted", "age", "booted", "last_heartbeat", "outdated", "pid", "seat", "state", "uptime"];
    assert_eq!(keys(&workers["workers"][0]), of_worker);
    let mut pids: Vec<u64> =
        workers["workers"].as_array().unwrap().iter().map(|worker| worker["pid"].as_u64().unwrap()).collect();
    pids.sort();
    let mut children: Vec<u64> = master.server.children().into_iter().map(u64::from).collect();
    children.sort();
    assert_eq!(pids, children);

    let stats = master.ask("show stats");
    let of_stats = [
        "connections",
        "drained",
        "log_level",
        "new_master",
        "old_master",
        "pid",
        "reloads",
        "requests",
        "requests_in_progress",
        "resident",
        "state",
        "uptime",
        "version",
        "workers",
        "workers_current",
        "workers_killed",
        "workers_spawned",
        "workers_target",
    ];
    assert_eq!(keys(&stats), of_stats);
    assert_eq!(stats["pid"], master.server.pid());
    assert_eq!((&stats["workers_target"], &stats["state"]), (&json!(2), &json!("ready")));
    assert!(stats["workers"][1]["resident"].as_u64().unwrap() > 100_000);
    assert!(stats["requests"].is_null(), "nobody wants to know, so nothing is counted");

    let listeners = master.ask("show listeners");
    assert_eq!(keys(&listeners["listeners"][0]), ["address", "bind", "fd", "type", "waiting"]);
    assert_eq!(listeners["listeners"][0]["address"], master.server.addr().to_string());

    let config = master.ask("show config");
    assert_eq!((&config["workers"], &config["control_socket_mode"]), (&json!("2"), &json!("0600")));
    assert_eq!(keys(&master.ask("show all")), ["listeners", "stats", "workers"]);
    assert!(master.ask("show greenlets 3")["workers"].as_array().unwrap().len() == 2);

    let greenlets = master.ask("show greenlets");
    let worker = &greenlets["workers"][0];
    assert_eq!(keys(worker), ["age", "count", "greenlets", "pid"]);
    let of_greenlet = ["id", "name", "parent", "since", "spawned_at", "stack_size", "stack_used", "what"];
    assert_eq!(keys(&worker["greenlets"][0]), of_greenlet);
    let names: Vec<&Value> =
        worker["greenlets"].as_array().unwrap().iter().map(|greenlet| &greenlet["name"]).collect();
    assert!(names.contains(&&json!("pulse")), "{names:?}");
}

#[test]
fn connections_are_shown_with_what_they_do() {
    let master = Master::start(1, &[]);
    let mut idle = master.server.connect();
    for _ in 0..3 {
        assert_eq!(idle.get("/plaintext").status, 200);
    }
    let mut waiting = master.server.connect();
    waiting.send(request("GET", "/sleep?ms=600000", &[], b""));
    let mut half = master.server.connect();
    half.send(b"GET / HTTP/1.1\r\nHos");
    let shown = || {
        let told = master.ask("show connections");
        let list = told["workers"][0]["connections"].as_array().expect("a list").clone();
        let of = |state: &str| list.iter().find(|seen| seen["state"] == state).cloned();
        Some((of("idle")?, of("handler")?, of("reading")?))
    };
    let (quiet, busy, reading) = eventually_some(PATIENCE, shown);
    let expected = ["peer", "request", "requests", "since", "state", "waits"];
    assert_eq!(keys(&quiet), expected);
    assert_eq!((&quiet["requests"], &quiet["request"]), (&json!(3), &Value::Null));
    assert_eq!(busy["request"], "GET /sleep?ms=600000 HTTP/1.1");
    assert_eq!(busy["waits"], "sleeps");
    assert_eq!(reading["requests"], 0);
    // Counted on after the green thread has left it alone, and when it is served by another one.
    eventually(PATIENCE, || {
        shown().is_some_and(|(quiet, ..)| quiet["waits"].is_null() && quiet["requests"] == 3)
    });
    assert_eq!(idle.get("/plaintext").status, 200);
    eventually(PATIENCE, || shown().is_some_and(|(quiet, ..)| quiet["requests"] == 4));
    let dump = master.ctl("dump");
    let text = String::from_utf8_lossy(&dump.stdout);
    assert!(dump.status.success() && text.contains("sleeps") && text.contains("demo"), "{text}");
}

#[test]
fn connections_of_os_threads_are_shown_and_their_green_threads_are_not() {
    let master = Master::start(1, &["-k", "threads"]);
    let mut client = master.server.connect();
    assert_eq!(client.get("/plaintext").status, 200);
    eventually(PATIENCE, || {
        master.ask("show connections")["workers"][0]["connections"][0]["state"] == "idle"
    });
    let told = master.ask("show greenlets");
    assert!(told["workers"][0]["error"].as_str().unwrap().contains("-k threads"), "{told}");
}

#[test]
fn a_worker_that_is_stuck_is_said_to_be_and_the_others_answer() {
    let master = Master::start(2, &["--timeout", "0"]);
    let mut client = master.server.connect();
    client.send(request("GET", "/block?ms=600000", &[], b""));
    let outcomes = |words: &str| {
        let told = master.ask(words);
        let workers = told["workers"].as_array().unwrap().clone();
        let (stuck, fine): (Vec<Value>, Vec<Value>) =
            workers.into_iter().partition(|worker| worker.get("error").is_some());
        (stuck, fine)
    };
    let stuck = eventually_some(PATIENCE, || {
        let (stuck, fine) = outcomes("show greenlets");
        (stuck.len() == 1 && fine.len() == 1).then(|| stuck[0].clone())
    });
    assert!(stuck["error"].as_str().unwrap().contains("hub has not turned"), "{stuck}");
    // One that does not run at all can't even say that.
    let other = master.ask("show workers")["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["pid"].as_u64().unwrap())
        .find(|pid| *pid != stuck["pid"].as_u64().unwrap())
        .unwrap();
    send_signal(u32::try_from(other).unwrap(), libc::SIGSTOP);
    let (silent, _) = outcomes("show connections");
    send_signal(u32::try_from(other).unwrap(), libc::SIGCONT);
    assert_eq!(silent.len(), 2);
    assert!(silent.iter().any(|worker| worker["error"] == "it does not answer"), "{silent:?}");
    // The dead need no graceful timeout.
    master.ask(&format!("worker kill {} --force", stuck["pid"]));
}

#[test]
fn workers_are_added_removed_and_killed_without_loss() {
    let master = Master::start(2, &[]);
    let before = master.server.children();
    let loads = Load::both(master.server.addr(), 4);
    assert_eq!(master.ask("worker add 2"), json!({"added": 2, "previous": 2, "total": 4}));
    eventually(PATIENCE, || master.server.children().len() == 4);
    assert_eq!(master.ask("worker remove 3"), json!({"previous": 4, "removed": 3, "total": 1}));
    eventually(PATIENCE, || master.server.children().len() == 1);
    assert_eq!(master.ask("worker remove 7"), json!({"previous": 1, "removed": 0, "total": 1}));
    loads.iter().for_each(|load| load.wait_for(20));
    let last = master.server.children()[0];
    assert!(before.contains(&last));
    assert_eq!(master.ask(&format!("worker kill {last}"))["killed"], last);
    eventually(PATIENCE, || master.server.children().len() == 1 && master.server.children()[0] != last);
    loads.iter().for_each(|load| load.wait_for(20));
    nothing_was_lost(loads);

    let next = master.ask("show workers")["workers"][0].clone();
    let killed = master.ask(&format!("worker kill --force {}", next["age"]));
    assert_eq!((&killed["killed"], &killed["force"]), (&next["pid"], &json!(true)));
    eventually(PATIENCE, || {
        let now = master.ask("show workers");
        now["count"] == 1 && now["workers"][0]["pid"] != next["pid"] && now["workers"][0]["state"] == "ready"
    });
    assert_eq!(master.ask("show stats")["workers_killed"], 1);
    assert!(!master.server.log().contains("ended unexpectedly"));

    let refused = master.ctl("worker kill 1");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("no worker of this server"), "{}", said(&refused));
    assert!(master.server.log().contains("Operator (process "));
}

#[test]
fn a_reload_replaces_the_workers_and_a_bad_one_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    let (file, first, second) = (scratch.join("s.toml"), scratch.join("a"), scratch.join("b"));
    let settings = |path: &Path, more: &str| {
        fs::write(&file, format!("workers = 1\ncontrol_socket = '{}'\n{more}", path.display())).unwrap();
    };
    settings(&first, "");
    let server = ServerProcess::builder()
        .without_worker_count()
        .args(["demo", "--config", file.to_str().unwrap()])
        .start();
    let workers = server.wait_for_workers(1);
    eventually(PATIENCE, || ctl(&first, "set log-level debug").status.success());
    assert!(ctl(&first, "reload").status.success());
    eventually(PATIENCE, || server.children().len() == 1 && server.children() != workers);
    let workers = server.children();

    settings(&first, "backlog = 'long'");
    let refused = ctl(&first, "reload");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("backlog"), "{}", said(&refused));
    assert_eq!(server.children(), workers);

    settings(&second, "");
    assert!(ctl(&first, "reload").status.success());
    assert!(!first.exists(), "it has moved");
    let stats = ctl(&second, "show stats -j");
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats["reloads"], &stats["log_level"]), (&json!(2), &json!("info")));
}

#[test]
fn the_log_level_is_set_in_master_and_workers_at_once() {
    let master = Master::start(1, &[]);
    let refused = || {
        // What the worker was told before this it has heard by then.
        master.ask("show connections");
        let mut client = master.server.connect();
        client.send(b"nonsense\r\n\r\n");
        assert_eq!(client.response().status, 400);
    };
    assert_eq!(master.ask("set log-level warning"), json!({"log_level": "warning", "previous": "info"}));
    refused();
    master.ask("worker add");
    assert_eq!(master.ask("set log-level info"), json!({"log_level": "info", "previous": "warning"}));
    assert!(!master.server.log().contains("refused with") && !master.server.log().contains("worker add"));
    refused();
    master.server.wait_for_log("refused with");
    master.ask("worker remove");
    master.server.wait_for_log("worker remove");
}

#[test]
fn logs_are_opened_again() {
    let scratch = Scratch::new();
    let access = scratch.join("access");
    let master = Master::start(1, &["--access-logfile", access.to_str().unwrap()]);
    fs::rename(&access, scratch.join("old")).unwrap();
    assert_eq!(master.ask("reopen"), json!({"status": "reopening"}));
    eventually(PATIENCE, || access.exists());
}

#[test]
fn a_shutdown_is_graceful_or_quick_and_takes_the_socket_along() {
    for (mode, told) in [("", "graceful"), ("quick", "quick")] {
        let mut master = Master::start(2, &[]);
        let answer = master.ask(&format!("shutdown {mode}"));
        assert_eq!(answer, json!({"mode": told, "status": "shutting_down"}));
        assert!(master.server.wait_exit().success());
        assert!(!master.socket().exists());
        let nobody = master.ctl("show workers");
        assert_eq!(nobody.status.code(), Some(3));
        assert!(said(&nobody).contains("--socket"), "{}", said(&nobody));
    }
}

#[test]
fn the_socket_has_its_mode_and_can_be_left_out() {
    let master = Master::start(1, &[]);
    let mode = fs::metadata(master.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let open = Master::start(1, &["--control-socket-mode", "0660"]);
    assert_eq!(fs::metadata(open.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    let none = Master::start(1, &["--no-control-socket"]);
    assert!(!none.socket().exists());
}

#[test]
fn a_second_server_takes_another_name_and_is_found() {
    let first = Master::start(1, &[]);
    let path = first.socket();
    let second = ServerProcess::start(["demo", "-w", "1", "--control-socket", path.to_str().unwrap()]);
    second.wait_for_log("Another server has the control socket");
    let beside = PathBuf::from(format!("{}.{}", path.display(), second.pid()));
    eventually(PATIENCE, || beside.exists());
    let settings = format!("--control-socket {}", path.display());
    let unnamed = || {
        let mut command = Binary::command();
        command.env("GREENSERVE_CMD_ARGS", &settings).args(["ctl", "show", "stats", "-j"]);
        command.output().expect("its output")
    };
    let several = unnamed();
    assert_eq!(several.status.code(), Some(2));
    assert!(said(&several).contains(beside.to_str().unwrap()), "{}", said(&several));
    let Master { server, scratch: _scratch } = first;
    drop(server);
    let only = unnamed();
    assert!(only.status.success(), "{}", said(&only));
    assert_eq!(serde_json::from_slice::<Value>(&only.stdout).unwrap()["pid"], second.pid());
}

#[test]
fn a_new_master_has_a_socket_beside_the_old_ones_and_then_its_name() {
    let mut master = Master::start(1, &[]);
    let (socket, second) = (master.socket(), PathBuf::from(format!("{}.2", master.socket().display())));
    master.server.signal(libc::SIGUSR2);
    let line = master.server.wait_for_log("Started a new master, process ");
    let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    eventually(PATIENCE, || children_of(new).len() == 1 && second.exists());
    let pid = |socket: &Path| -> Value {
        let stats = ctl(socket, "show stats -j");
        serde_json::from_slice::<Value>(&stats.stdout).map_or(Value::Null, |stats| stats["pid"].clone())
    };
    assert_eq!((pid(&socket), pid(&second)), (json!(master.server.pid()), json!(new)));
    master.server.wait_for_log(&format!("[{new}] [INFO] All 1 workers are ready"));
    assert!(ctl(&socket, "shutdown").status.success());
    eventually(PATIENCE, || pid(&socket) == new);
    assert!(!second.exists());
    assert!(ctl(&socket, "shutdown").status.success());
    assert!(master.server.wait_exit().success());
}

#[test]
fn garbage_megabytes_and_silence_harm_nobody() {
    let master = Master::start(1, &[]);
    let loads = Load::both(master.server.addr(), 2);
    let mut talker = master.session();
    talker.get_mut().write_all(b"\xff\xfe\x00\n{\"command\": 7}\nGET / HTTP/1.1\nhelp\n").unwrap();
    for _ in 0..3 {
        assert!(line(&mut talker).contains("\"error\""));
    }
    assert!(line(&mut talker).contains("\"ok\""), "the session lives on");

    let mut flood = master.session();
    // It is refused in the midst of it.
    let _ = flood.get_mut().write_all(&vec![b'x'; 4 << 20]);
    let _ = flood.read_to_end(&mut Vec::new());

    let mut deaf = master.session();
    deaf.get_mut().set_nonblocking(true).unwrap();
    let mut asked = 0;
    while asked < 100_000 && deaf.get_mut().write_all(b"show config\n").is_ok() {
        asked += 1;
    }
    assert!(asked < 100_000, "who does not read is not read either");
    let mut crowd: Vec<_> = (0..20).map(|_| master.session()).collect();
    let last = crowd.last_mut().unwrap();
    last.get_mut().write_all(b"{\"id\": 9, \"command\": \"show\", \"args\": [\"workers\"]}\n").unwrap();
    assert!(line(last).starts_with("{\"id\":9,\"status\":\"ok\""));
    loads.iter().for_each(|load| load.wait_for(20));
    nothing_was_lost(loads);
}

#[test]
fn a_wrong_command_line_is_told_without_a_server() {
    let wrong = Binary::run(&["ctl", "show", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("no such command"), "{}", said(&wrong));
    let help = Binary::run(&["ctl", "--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success() && text.contains("worker kill PID|AGE") && text.contains("Exit codes"));
    assert_eq!(Binary::run(&["ctl"]).stdout, Binary::run(&["ctl", "help"]).stdout);
}

#[test]
fn people_get_tables() {
    let master = Master::start(1, &[]);
    let shown = master.ctl("show workers");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("PID")), "{text}");
    assert!(lines.next().is_some_and(|row| row.contains("ready")), "{text}");
    let whole = master.ctl("show all");
    assert!(String::from_utf8_lossy(&whole.stdout).contains("workers_target"));
}
