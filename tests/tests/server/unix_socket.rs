//! `--bind unix:PATH`, and several addresses at once.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

use greenserve_tests::{Binary, Client, Scratch, ServerProcess, request};

#[test]
fn a_unix_socket_serves_and_is_removed_at_the_end() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let bind = format!("unix:{}", path.display());
    let mut server = ServerProcess::builder().args(["demo"]).bind(&bind).start();
    assert_eq!(server.listening(), [bind]);
    assert!(path.metadata().unwrap().file_type().is_socket());
    let mut client = Client::unix(&path);
    for _ in 0..3 {
        assert_eq!(client.get("/plaintext").text(), "Hello, World!");
    }
    assert_eq!(client.get("/whoami").status, 200);
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(!path.exists(), "the socket file is gone");
}

#[test]
fn several_addresses_are_served_at_once() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let server = ServerProcess::builder()
        .args(["demo"])
        .bind("127.0.0.1:0")
        .bind(format!("unix:{}", path.display()))
        .bind("127.0.0.1:0")
        .start();
    assert_eq!(server.listening().len(), 3);
    assert_eq!(Client::unix(&path).get("/plaintext").status, 200);
    for at in server.listening().iter().filter_map(|at| at.strip_prefix("http://")) {
        assert_eq!(Client::tcp(at.parse().unwrap()).get("/plaintext").status, 200);
    }
}

#[test]
fn ipv6_is_written_with_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // a machine without IPv6
        return;
    }
    let server = ServerProcess::builder().args(["demo"]).bind("[::1]:0").start();
    assert!(server.listening()[0].starts_with("http://[::1]:"), "{:?}", server.listening());
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_socket_left_behind_by_a_dead_server_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = ServerProcess::builder().args(["demo"]).bind(format!("unix:{}", path.display())).start();
    assert_eq!(server.listening().len(), 1);
    assert_eq!(Client::unix(&path).get("/plaintext").status, 200);
}

#[test]
fn a_socket_that_is_in_use_is_not_stolen() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let bind = format!("unix:{}", path.display());
    let first = ServerProcess::builder().args(["demo"]).bind(&bind).start();
    let second = Binary::run(&["demo", "--bind", &bind]);
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("app.sock"), "the message names the socket");
    assert!(first.proc().threads() > 0);
    assert_eq!(Client::unix(&path).get("/plaintext").status, 200);
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let scratch = Scratch::new();
    let path = scratch.write("precious.txt", "keep me");
    let output = Binary::run(&["demo", "--bind", &format!("unix:{}", path.display())]);
    assert!(!output.status.success());
    assert_eq!(std::fs::read(&path).unwrap(), b"keep me");
}

#[test]
fn a_half_closed_unix_client_gets_its_answer() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let _server = ServerProcess::builder().args(["demo"]).bind(format!("unix:{}", path.display())).start();
    let mut client = Client::unix(&path);
    client.send(request("GET", "/sleep?ms=100", &[], b""));
    client.finish_sending();
    assert_eq!(client.response().status, 200);
    client.expect_close();
}
