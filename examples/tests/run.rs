//! Every example runs and does what it says.

use std::process::{Command, Stdio};
use std::rc::Rc;

use greenserve_tests::{
    Client, PATIENCE, ServerProcess, eventually, eventually_some, request, try_send_signal,
};

/// The standard output of an example that ends by itself.
fn output(program: &str) -> String {
    let output = Command::new(program).stdin(Stdio::null()).output().expect("the example starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn resolve_prints_an_address_for_each_name() {
    let text = output(env!("CARGO_BIN_EXE_resolve"));
    assert!(text.contains("127.0.0.1:443 = [127.0.0.1:443]") && text.contains("localhost:80"), "{text}");
}

#[test]
fn echo_serves_a_hundred_clients() {
    assert_eq!(output(env!("CARGO_BIN_EXE_echo")), "100 clients have got 1000 lines back\n");
}

#[test]
fn scope_counts_words_and_is_stopped_in_time() {
    let text = output(env!("CARGO_BIN_EXE_scope"));
    assert!(text.contains("words a line: [4, 5, 5]") && text.contains("the time given was over"), "{text}");
}

#[test]
fn shared_lock_loses_nothing_when_a_worker_is_killed() {
    let text = output(env!("CARGO_BIN_EXE_shared_lock"));
    assert!(text.contains("its owner died with 999 in the accounts: put right\n"), "{text}");
    assert!(text.ends_with("800 transfers: 199 and 801\n"), "{text}");
}

#[test]
fn kill_sleep_gives_back_what_was_held_and_reaches_nothing_else() {
    let text = output(env!("CARGO_BIN_EXE_kill_sleep"));
    assert!(text.starts_with("dead: true\n"), "{text}");
    assert_eq!(text.matches("is given back").count(), 3, "{text}");
    assert!(!text.contains("this line"), "{text}");
}

#[test]
fn hello_answers_on_all_its_routes() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_hello")).start();
    let mut client = server.connect();
    assert_eq!(client.get("/").text(), "Hello, World!\n");
    assert_eq!(client.get("/slow").text(), "done\n");
    assert_eq!(client.get("/stream").text(), "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(client.post("/count", b"two\nlines").text(), "2 lines, 9 bytes\n");
    assert_eq!(client.get("/count").status, 405);
    assert_eq!(client.get("/nowhere").status, 404);
    client.send(request("POST", "/count", &["Transfer-Encoding: chunked"], b"nonsense"));
    assert_eq!(client.response().status, 400, "an error of the body is the client's");
}

/// A member of a room of the chat.
fn join(server: &ServerProcess, room: &str, name: &str) -> tungstenite::WebSocket<greenlet::net::TcpStream> {
    let stream = greenlet::net::TcpStream::connect(server.addr()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let url = format!("ws://{}/rooms/{room}?{name}", server.addr());
    tungstenite::client(url, stream).expect("a handshake").0
}

#[test]
fn chat_tells_everybody_everything_in_order_whoever_sleeps() {
    const MEMBERS: usize = 300;
    const SPEAKERS: usize = 40;
    const LINES: usize = 3;
    let server = Rc::new(ServerProcess::builder().program(env!("CARGO_BIN_EXE_chat")).start());
    assert!(server.get("/").text().contains("new WebSocket"));
    let _asleep = join(&server, "hall", "sleeper");
    let everybody = Rc::new(greenlet::sync::Barrier::new(MEMBERS));
    let members: Vec<_> = (0..MEMBERS)
        .map(|member| {
            let (server, everybody) = (Rc::clone(&server), Rc::clone(&everybody));
            greenlet::spawn(move || {
                let mut socket = join(&server, "hall", &format!("m{member}"));
                everybody.wait().expect("all have come");
                if member < SPEAKERS {
                    (0..LINES).for_each(|line| socket.send(line.to_string().into()).expect("it is taken"));
                }
                let mut next = [0; SPEAKERS];
                while next.iter().any(|next| *next < LINES) {
                    let message = socket.read().expect("a message");
                    let text = message.to_text().expect("text");
                    let Some((name, line)) = text.split_once(": ") else { continue };
                    let speaker: usize = name[1..].parse().expect("a number");
                    assert_eq!(line.parse(), Ok(next[speaker]), "each speaker's order is kept");
                    next[speaker] += 1;
                }
            })
        })
        .collect();
    members.into_iter().for_each(|member| member.join().expect("all was heard"));
}

#[test]
fn chat_throws_out_who_takes_nothing_and_goes_on_for_the_others() {
    let mut server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_chat")).start();
    let _asleep = join(&server, "yard", "sleeper");
    let mut members = ["ann", "bob"].map(|name| join(&server, "yard", name));
    let long = "x".repeat(50_000);
    let mut is_out = false;
    for _ in 0..10_000 {
        members[0].send(long.as_str().into()).expect("it is taken");
        for member in &mut members {
            while !member.read().expect("a message").to_text().expect("text").starts_with("ann: ") {}
        }
        is_out = server.log().contains("too slow");
        if is_out {
            break;
        }
    }
    assert!(is_out, "the sleeper is still there");
    server.wait_for_log("member 0 of yard is too slow");
    server.signal(15);
    while let Ok(message) = members[1].read() {
        if let tungstenite::Message::Close(frame) = message {
            assert_eq!(frame.expect("a reason").code, tungstenite::protocol::frame::coding::CloseCode::Away);
        }
    }
    drop(members);
    assert!(server.wait_exit().success());
}

#[test]
fn api_keeps_a_list_of_tasks_for_who_has_the_key() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_api")).start();
    let mut client = server.connect();
    let mut ask = |method: &str, target: &str, headers: &[&str], body: &str| {
        client.send(request(method, target, headers, body.as_bytes()));
        let response = client.response();
        (response.status, response.text().to_owned())
    };
    const KEY: &[&str] = &["x-key: secret"];
    const JSON: &[&str] = &["x-key: secret", "content-type: application/json"];
    let milk = r#"{"id":1,"title":"milk","done":false}"#;
    assert_eq!(ask("POST", "/api/tasks", JSON, r#"{"title":"milk"}"#), (201, milk.to_owned()));
    assert_eq!(ask("POST", "/api/tasks", JSON, r#"{"title":"bread"}"#).0, 201);
    assert_eq!(ask("GET", "/api/tasks/1", KEY, ""), (200, milk.to_owned()));
    assert_eq!(ask("PATCH", "/api/tasks/2", JSON, r#"{"done":true}"#).0, 200);
    assert_eq!(ask("GET", "/api/tasks?done=false", KEY, ""), (200, format!("[{milk}]")));
    assert_eq!(ask("DELETE", "/api/tasks/2", KEY, ""), (204, String::new()));
    assert_eq!(ask("GET", "/api/tasks/2", KEY, "").0, 404);
    assert_eq!(ask("GET", "/api/tasks/two", KEY, "").0, 404);
    assert_eq!(ask("GET", "/api/tasks?done=perhaps", KEY, "").0, 400);
    assert_eq!(
        ask("POST", "/api/tasks", JSON, r#"{"title":" "}"#),
        (422, "a task needs a title\n".to_owned())
    );
    assert_eq!(ask("POST", "/api/tasks", JSON, &format!("{{\"title\":{:?}}}", "x".repeat(2000))).0, 413);
    assert_eq!(ask("PUT", "/api/tasks", KEY, "").0, 405);
    assert_eq!(ask("GET", "/api/slow", KEY, "").0, 503);
    assert_eq!(ask("GET", "/api/tasks", &[], "").0, 401);
    assert_eq!(ask("GET", "/tasks", &[], "").0, 308);
    assert_eq!(ask("GET", "/nowhere", &[], ""), (404, "there is no /nowhere here\n".to_owned()));
    server.wait_for_log("DELETE /api/tasks/{id}: 204 after");
    server.wait_for_log("GET no route: 404 after");
}

#[test]
fn background_answers_before_its_last_task_is_done() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_background")).start();
    let page = server.get("/");
    assert!(page.text().starts_with("the long task says 55\nsleeping"), "{}", page.text());
    assert!(page.text().contains("127.0.0.1:80 = ") && page.text().ends_with("see you in the log\n"));
    assert!(!server.log().contains("background task done"));
    server.wait_for_log("background task done");
}

#[test]
fn request_context_knows_in_each_view_and_in_background_work_for_whom() {
    let text = output(env!("CARGO_BIN_EXE_request_context"));
    assert!(text.contains("page / for ann, 1 visits, and a part: part of /part for ann\n"), "{text}");
    assert!(text.contains("page /apples for bob, 7 visits, and a part: part of /part for bob\n"), "{text}");
    assert!(text.contains("mail sent for ann\n") && text.contains("mail sent for bob\n"), "{text}");
}

#[test]
fn locals_keeps_requests_apart_at_the_same_time_and_one_after_the_other() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_locals")).start();
    let users = ["ann", "bob", "cem"];
    let mut clients = users.map(|_| server.connect());
    for (client, user) in clients.iter_mut().zip(users) {
        client.send(request("GET", &format!("/?user={user}"), &[], b""));
    }
    for (client, user) in clients.iter_mut().zip(users) {
        assert_eq!(client.response().text(), format!("{user}: 42 apples, 4 lines in the log\n"));
    }
    assert_eq!(
        clients[0].get("/").text(),
        "nobody: 42 apples, 4 lines in the log\n",
        "nothing is left of the last one"
    );
    for user in users {
        assert_eq!(server.log().matches(&format!("[{user}] ")).count(), 4);
    }
}

#[test]
fn per_request_finds_the_values_of_each_of_five_requests_before_and_after_a_wait() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_per_request")).start();
    let mut clients: Vec<_> = (1..=5).map(|_| server.connect()).collect();
    for (client, n) in clients.iter_mut().zip(1..) {
        client.send(request("GET", &format!("/?a={n}&b={n}"), &[], b""));
    }
    assert!(clients.iter_mut().all(|client| client.response().text() == "OK\n"));
    (1..=5).for_each(|n| drop(server.wait_for_log(&format!("After sleep; a:{n} b:{n}"))));
    let log = server.log();
    for n in 1..=5 {
        let line = |prefix: &str| log.find(&format!("{prefix} sleep; a:{n} b:{n}\n"));
        assert!(line("Before").expect("a line before") < line("After").expect("a line after"), "{log}");
    }
    // one line of those after the wait stands behind all those before it: they waited at the same time
    assert!(log.rfind("Before sleep") < log.find("After sleep"), "{log}");
    assert_eq!(clients[0].get("/").status, 400);
}

#[test]
fn after_response_answers_first_and_takes_the_context_along() {
    let server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_after_response")).start();
    let order = server.get("/apples").text().trim().rsplit(' ').next().expect("an id").to_owned();
    let mark = format!("[{order} path=/apples]");
    assert!(server.wait_for_log("the order is in the books").contains(&mark));
    assert!(server.wait_for_log("the mail is sent").contains(&mark), "{}", server.log());
}

#[test]
fn log_fields_are_in_every_line_of_their_request_and_in_no_other() {
    let server = ServerProcess::builder()
        .program(env!("CARGO_BIN_EXE_log_fields"))
        .args(["--request-id-header", "X-Request-Id"])
        .start();
    let mut clients: Vec<_> = (1..=5).map(|_| server.connect()).collect();
    for (client, n) in clients.iter_mut().zip(1..) {
        client.send(request("GET", &format!("/?user={n}"), &[&format!("X-Request-Id: id-{n}")], b""));
    }
    for (client, n) in clients.iter_mut().zip(1..) {
        let response = client.response();
        assert_eq!(response.text(), "you have 42 apples\n");
        assert_eq!(response.header("x-request-id"), Some(&*format!("id-{n}")));
    }
    for n in 1..=5 {
        for message in ["looking into the books", "the books are dusty"] {
            server.wait_for_log(&format!("[id-{n} user={n}] {message}"));
        }
    }
    // What fails is logged by the server, under the same request; a value that would forge a line does not.
    let mut bad = server.connect();
    let forged = "x]%0a[2026-01-01]";
    bad.send(request("GET", &format!("/?user={forged}"), &["X-Request-Id: a] b"], b""));
    let made = bad.response().header("x-request-id").expect("an id").to_owned();
    assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    server.wait_for_log(&format!("[{made} user=\"{forged}\"] looking"));
    bad.send(request("GET", "/?user=nobody", &["X-Request-Id: last"], b""));
    assert_eq!(bad.response().status, 500);
    // What happened, and to which request.
    for what in ["no such user", "the handler panicked"] {
        let line = server.wait_for_log(what);
        assert!(line.contains("[ERROR] [last user=nobody] "), "{line}");
    }
    assert_eq!(server.log().matches("user=nobody] ").count(), 4, "{}", server.log());
}

#[test]
fn global_lock_counts_right_while_its_workers_are_killed_at_random() {
    const CLIENTS: usize = 24;
    const EACH: u64 = 60;
    const KILLS: usize = 12;
    let server =
        ServerProcess::builder().program(env!("CARGO_BIN_EXE_global_lock")).args(["-w", "4"]).start();
    server.wait_for_workers(4);
    let addr = server.addr();
    let post = request("POST", "/count", &["Connection: close"], b"");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let post = post.clone();
            std::thread::spawn(move || {
                (0..EACH)
                    .filter(|_| {
                        // Who was with a worker that was killed has no answer; others are served.
                        let Ok(mut client) = Client::try_tcp(addr) else { return false };
                        let answer = client.try_send(&post).ok().and_then(|()| client.try_response().ok());
                        answer.is_some_and(|answer| {
                            assert_eq!(answer.status, 200, "{}", answer.text());
                            true
                        })
                    })
                    .count() as u64
            })
        })
        .collect();
    // A small generator: which one is killed does not matter, but that it is not always the same.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..KILLS {
        if clients.iter().all(std::thread::JoinHandle::is_finished) {
            break;
        }
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let workers = server.children();
        if let Some(pid) = workers.get((random >> 33) as usize % workers.len().max(1)) {
            // It may have ended meanwhile.
            let _ = try_send_signal(*pid, 9);
        }
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    let answered: u64 = clients.into_iter().map(|client| client.join().expect("no wrong answer")).sum();
    let counted: u64 = eventually_some(PATIENCE, || {
        let mut client = Client::try_tcp(addr).ok()?;
        client.try_send(&request("GET", "/count", &[], b"")).ok()?;
        client.try_response().ok()?.text().trim().parse().ok()
    });
    assert!(answered > 0 && server.log().contains("SIGKILL"), "{answered} answered");
    // Each that was answered was counted once; some were counted whose answer was lost with their worker.
    assert!((answered..=CLIENTS as u64 * EACH).contains(&counted), "{answered} answered, {counted} counted");
    assert!(counted - answered <= KILLS as u64 * CLIENTS as u64);
}

#[test]
fn hooks_are_called_in_gunicorns_order() {
    let mut server = ServerProcess::builder().program(env!("CARGO_BIN_EXE_hooks")).args(["-w", "1"]).start();
    let mut seen = 0;
    // What was called since the last time, once `last` was; workers and master write at the same time, so only the order
    // within each is certain.
    let mut since = |server: &ServerProcess, last: &str| -> Vec<String> {
        let hooks = |log: &str| -> Vec<String> {
            log.lines().filter_map(|line| Some(line.split_once("hook ")?.1.to_owned())).collect()
        };
        eventually(PATIENCE, || hooks(&server.log())[seen..].iter().any(|hook| hook == last));
        let all = hooks(&server.log());
        let new = all[seen..].to_vec();
        seen = all.len();
        new
    };
    let mut started = since(&server, "when_ready");
    // The worker's own come from another process than the master's.
    let worker = ["post_fork, worker 1", "post_worker_init, worker 1"];
    let of_worker: Vec<String> =
        started.iter().filter(|hook| worker.contains(&hook.as_str())).cloned().collect();
    started.retain(|hook| !worker.contains(&hook.as_str()));
    assert_eq!(of_worker, worker);
    assert_eq!(started, ["on_starting, 1 workers", "pre_fork, worker 1", "when_ready"]);

    assert_eq!(server.get("/a").header("x-worker"), Some("1"));
    let asked = since(&server, "post_request, worker 1");
    assert_eq!(asked, ["pre_request /a, worker 1", "post_request, worker 1"]);

    server.signal(21); // SIGTTIN
    let more = since(&server, "post_worker_init, worker 2");
    assert!(more.contains(&"nworkers_changed, 2 after 1".to_owned()), "{more:?}");
    eventually(PATIENCE, || server.children().len() == 2);
    server.signal(22); // SIGTTOU
    let fewer = since(&server, "child_exit, worker 2");
    assert_eq!(fewer, ["nworkers_changed, 1 after 2", "worker_exit, worker 2", "child_exit, worker 2"]);

    server.signal(1); // SIGHUP
    let reloaded = since(&server, "child_exit, worker 1");
    let place = |hook: &str| {
        reloaded.iter().position(|other| other == hook).unwrap_or_else(|| panic!("{reloaded:?}"))
    };
    assert!(place("on_reload, 1 workers") < place("pre_fork, worker 3"));
    assert!(place("pre_fork, worker 3") < place("post_worker_init, worker 3"));
    assert!(place("post_worker_init, worker 3") < place("worker_exit, worker 1"));

    try_send_signal(server.children()[0], 3).unwrap(); // SIGQUIT to the worker
    since(&server, "worker_int, worker 3");
    since(&server, "post_worker_init, worker 4");
    eventually(PATIENCE, || server.children().len() == 1);
    try_send_signal(server.children()[0], 6).unwrap(); // SIGABRT to the worker
    let aborted = since(&server, "child_exit, worker 4");
    assert!(aborted.contains(&"worker_abort, worker 4".to_owned()), "{aborted:?}");
    since(&server, "post_worker_init, worker 5");
    eventually(PATIENCE, || server.get("/b").header("x-worker") == Some("5"));
    since(&server, "post_request, worker 5");

    server.signal(15); // SIGTERM
    assert!(server.wait_exit().success());
    let ended = since(&server, "on_exit");
    assert_eq!(ended, ["worker_exit, worker 5", "child_exit, worker 5", "on_exit"]);
}
