//! What a request costs: a master takes no part in it.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use greenserve_tests::{PATIENCE, Scratch, ServerProcess, eventually};

const REQUESTS: usize = 100;

/// Whether another program's system calls can be seen here.
fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "true"]).stdin(Stdio::null()).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

/// The system calls from the reading of one request to that of the next, in most cases.
fn calls_for_a_request(args: &[&str]) -> Vec<String> {
    let scratch = Scratch::new();
    let trace = scratch.join("trace");
    // The tracer is not the parent of what it traces, so signals and the process id are the server's.
    let traced = format!("exec strace -D -f -s 32 -o {} \"$0\" \"$@\"", trace.display());
    let mut server = ServerProcess::builder().after(traced).args(args.iter().copied()).start();
    let mut client = server.connect();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/plaintext").status, 200);
        // So that the server waits for each.
        thread::sleep(Duration::from_millis(3));
    }
    drop(client);
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    let text = || String::from_utf8_lossy(&fs::read(&trace).unwrap_or_default()).into_owned();
    // Short numbers are followed by more than one space.
    let has_ended = |line: &str| {
        line.strip_prefix(&server.pid().to_string())
            .is_some_and(|rest| rest.trim_start().starts_with("+++ exited"))
    };
    eventually(PATIENCE, || text().lines().any(has_ended));
    let text = text();
    let by_thread = |line: &str| line.split_once(' ').map(|(thread, _)| thread.to_owned());
    let begins = |line: &str| line.contains("\"GET /plaintext");
    let serves = text.lines().find(|line| begins(line)).and_then(by_thread).expect("a request was read");
    let (mut sequences, mut calls, mut requests) = (BTreeMap::<Vec<String>, usize>::new(), Vec::new(), 0);
    // Who is interrupted by another's line goes on in a second one.
    for line in text.lines().filter(|line| by_thread(line).is_some_and(|thread| thread == serves)) {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let name = match call.strip_prefix("<... ") {
            Some(_) if !begins(line) => continue,
            Some(resumed) => resumed.split(' ').next().unwrap_or_default(),
            None => call.split('(').next().unwrap_or_default(),
        };
        if begins(line) {
            requests += 1;
            let whole = std::mem::take(&mut calls);
            *sequences.entry(whole).or_default() += 1;
        }
        if !call.starts_with("<... ") {
            calls.push(name.to_owned());
        }
    }
    assert_eq!(requests, REQUESTS, "{text}");
    sequences.into_iter().max_by_key(|(_, count)| *count).expect("some sequence").0
}

#[test]
fn a_request_takes_the_same_system_calls_with_a_master_as_without() {
    if !can_trace() {
        println!("NOT CHECKED: there is no strace, or it may not trace");
        return;
    }
    let alone = calls_for_a_request(&["demo", "-w", "0", "--keep-alive", "60"]);
    assert!(alone.iter().any(|call| call.starts_with("send") || call.starts_with("write")), "{alone:?}");
    assert!(alone.len() <= 4, "{alone:?}");
    for others in [["-w", "1", "--threads", "1"], ["-w", "1", "--threads", "2"]] {
        let args: Vec<&str> = ["demo", "--keep-alive", "60"].into_iter().chain(others).collect();
        assert_eq!(calls_for_a_request(&args), alone, "{others:?}");
    }
}
