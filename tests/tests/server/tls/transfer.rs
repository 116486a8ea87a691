//! Requests and answers over TLS: the same as over plain connections.

use std::io::Write;
use std::thread;
use std::time::Duration;

use greenserve_tests::{PATIENCE, ReadError, Scratch, ServerProcess, eventually, request};
use sha2::{Digest, Sha256};

use super::handshake::cut;
use super::{KINDS, Site};

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 977) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_connection_serves_one_request_after_another_and_pipelined_ones_in_order() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind]);
        let mut client = site.connect(&server);
        for _ in 0..20 {
            assert_eq!(client.get("/plaintext").text(), "Hello, World!");
        }
        for n in 0..100 {
            // several records, and several requests in one
            client.send(
                [request("GET", &format!("/fixed?n={n}"), &[], b""), request("GET", "/x", &[], b"")].concat(),
            );
        }
        for n in 0..100 {
            assert_eq!(client.response().body.len(), n, "{kind}");
            assert_eq!(client.response().status, 404);
        }
        assert_eq!(client.get("/plaintext").status, 200);
    }
}

#[test]
fn an_answer_does_not_wait_for_the_next_ones_handler() {
    let site = Site::new();
    let server = site.serve(&["--graceful-timeout", "0.1"]);
    let mut client = site.connect(&server);
    client.send(
        [request("GET", "/fixed?n=100000", &[], b""), request("GET", "/sleep?ms=600000", &[], b"")].concat(),
    );
    assert_eq!(client.response().body.len(), 100_000);
}

#[test]
fn what_lies_decrypted_is_served_without_waiting_for_the_socket() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind]);
        let mut client = site.connect(&server);
        // one record: a body with its head, and the next request behind it
        let first = request("POST", "/upload", &[], &noise(5000));
        client.send([first, request("GET", "/plaintext", &[], b"")].concat());
        assert!(client.response().text().contains(&sha256(&noise(5000))));
        assert_eq!(client.response().text(), "Hello, World!", "{kind}");
    }
}

#[test]
fn large_bodies_go_both_ways() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind]);
        let body = noise(3_000_000);
        let mut client = site.connect(&server);
        assert!(client.post("/upload", &body).text().contains(&sha256(&body)), "{kind}");
        assert_eq!(client.get("/fixed?n=5000000").body.len(), 5_000_000, "{kind}");
        assert_eq!(client.get("/stream?n=50&size=70000&delay_ms=0").body.len(), 3_500_000, "{kind}");
        assert_eq!(client.get("/plaintext").status, 200);
    }
}

#[test]
fn files_are_sent_whole_and_in_part() {
    for kind in KINDS {
        let site = Site::new();
        let folder = Scratch::new();
        let content = noise(2_000_001);
        folder.write("large.bin", &content);
        folder.write("small.txt", "small");
        let server = site.serve(&[&format!("static:{}", folder.path().display()), "-k", kind]);
        let mut client = site.connect(&server);
        assert!(client.get("/large.bin").body == content, "{kind}");
        client.send(request("GET", "/large.bin", &["Range: bytes=100000-299999"], b""));
        let part = client.response();
        assert_eq!(part.status, 206);
        assert!(part.body == content[100_000..300_000], "{kind}");
        assert_eq!(client.get("/small.txt").text(), "small");
    }
}

#[test]
fn an_idle_connection_gives_its_green_thread_back_and_keeps_its_session() {
    let site = Site::new();
    let server = site.serve(&["--keep-alive", "600"]);
    let mut client = site.connect(&server);
    let greenlet =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["greenlet"]["id"].clone();
    let first = greenlet(client.get("/whoami").text());
    client.expect_silence(Duration::from_millis(500));
    let second = greenlet(client.get("/whoami").text());
    assert_ne!(first, second, "it was parked without one");
    assert_eq!(client.get("/fixed?n=100000").body.len(), 100_000);
}

#[test]
fn every_regular_end_is_announced() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--keep-alive", "0.3"]);
        // the keep-alive timeout; with green threads it ends after the thread has gone
        let mut idle = site.connect(&server);
        assert_eq!(idle.get("/plaintext").status, 200);
        idle.expect_close();
        // the client's own wish
        let mut closing = site.connect(&server);
        closing.send(request("GET", "/plaintext", &["Connection: close"], b""));
        assert_eq!(closing.response().status, 200);
        closing.expect_close();
        // a refusal, after which the client may be sending still
        let mut refused = site.connect(&server);
        refused.send(b"nonsense\r\n\r\n");
        assert_eq!(refused.response().status, 400);
        refused.expect_close();
        // the client's end
        let mut done = site.connect(&server);
        done.send(request("GET", "/plaintext", &[], b""));
        done.finish_sending();
        assert_eq!(done.response().status, 200, "{kind}: half closed");
        done.expect_close();
    }
}

#[test]
fn a_graceful_stop_announces_the_end_to_the_idle_and_to_those_in_flight() {
    for kind in KINDS {
        let site = Site::new();
        let mut server = site.serve(&["-k", kind, "--keep-alive", "600", "--graceful-timeout", "600"]);
        let mut parked = site.connect(&server);
        assert_eq!(parked.get("/plaintext").status, 200);
        parked.expect_silence(Duration::from_millis(200));
        let mut busy = site.connect(&server);
        assert_eq!(busy.get("/plaintext").status, 200);
        busy.send(request("GET", "/sleep?ms=700", &[], b""));
        for _ in 0..3 {
            assert_eq!(site.connect(&server).get("/sleep?ms=10").status, 200);
        }
        server.signal(libc::SIGTERM);
        parked.expect_close();
        let last = busy.response();
        assert!(last.status == 200 && last.says_close(), "{kind}");
        busy.expect_close();
        assert!(server.wait_exit().success(), "{kind}: {}", server.log());
    }
}

#[test]
fn a_connection_that_is_cut_in_a_body_is_an_error_and_between_requests_is_none() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--log-level", "debug"]);
        // RFC 9112, 9.8: the length says that it is not whole
        let mut client = site.connect(&server);
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf");
        cut(client.socket());
        assert_eq!(client.response().status, 400, "{kind}");
        // and here that it is
        let mut client = site.connect(&server);
        client.send(request("POST", "/upload", &[], b"whole"));
        cut(client.socket());
        assert!(client.response().text().contains(&sha256(b"whole")));
        client.expect_close();
        assert!(!server.log().contains("[ERROR]"), "{}", server.log());
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let site = Site::new();
    let server = site.serve(&["--request-timeout", "1"]);
    let mut client = site.connect(&server);
    client.send(request("GET", "/fixed?n=60000000", &[], b""));
    // the handler's green thread is unwound in the midst of a write
    server.wait_for_log("the request timeout was over");
    match client.try_response() {
        // what came before is intact: the rest is missing, no record is broken
        Err(ReadError::Truncated(part)) => {
            assert!(part.status == 200 && part.body.len() < 60_000_000);
            assert!(client.read_rest().unwrap_err().to_string().contains("close_notify"));
        }
        other => panic!("{other:?}"),
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(site.connect(&server).get("/plaintext").status, 200);
}

#[test]
fn a_record_that_comes_byte_by_byte_does_not_outlast_the_header_timeout() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--header-timeout", "1", "--keep-alive", "600"]);
        let mut client = site.connect(&server);
        assert_eq!(client.get("/plaintext").status, 200);
        client.send("GET / HTTP/1.1\r\n");
        let mut socket = client.socket().try_clone().unwrap();
        let drip = thread::spawn(move || {
            // the header of a record of 512 bytes
            let record = [&[23, 3, 3, 2, 0][..], &[0; 512]].concat();
            record.iter().all(|byte| {
                thread::sleep(Duration::from_millis(100));
                socket.write_all(&[*byte]).is_ok()
            })
        });
        assert_eq!(client.response().status, 408, "{kind}");
        drop(client);
        assert!(!drip.join().unwrap());
    }
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection_and_nothing_else() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut client = site.connect(&server);
    assert_eq!(client.get("/plaintext").status, 200);
    client.socket().write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).unwrap();
    assert!(client.read_rest().unwrap_err().to_string().contains("BadRecordMac"));
    assert_eq!(site.connect(&server).get("/plaintext").status, 200);
    assert!(!server.log().contains("panicked"));
}

#[test]
fn many_connections_at_once_are_all_served() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind]);
        let mut clients: Vec<_> = (0..60).map(|_| site.connect(&server)).collect();
        for client in &mut clients {
            client.send(request("GET", "/sleep?ms=100", &[], b""));
        }
        for client in &mut clients {
            assert_eq!(client.response().status, 200, "{kind}");
        }
    }
}

/// The tools that everybody has, where they are there.
#[test]
fn curl_and_openssl_can_talk_to_it() {
    let site = Site::new();
    let server = site.serve(&[]);
    let root = super::path(&site.authority.root());
    let port = server.addr().port();
    if let Some(output) = tool(
        &server,
        "curl",
        &[
            "-sS",
            "--cacert",
            &root,
            "--resolve",
            &format!("localhost:{port}:127.0.0.1"),
            "-d",
            "some body",
            &format!("https://localhost:{port}/upload"),
        ],
    ) {
        assert!(output.contains(&sha256(b"some body")), "{output}");
    }
    if let Some(output) = tool(
        &server,
        "openssl",
        &[
            "s_client",
            "-brief",
            "-CAfile",
            &root,
            "-servername",
            "localhost",
            "-verify_hostname",
            "localhost",
            "-alpn",
            "http/1.1",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ],
    ) {
        assert!(output.contains("Verification: OK"), "{output}");
    }
}

/// Both outputs of a program, if this machine has it.
fn tool(_server: &ServerProcess, program: &str, args: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(args).stdin(std::process::Stdio::null()).output();
    let output = output.ok()?;
    Some([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

#[test]
fn who_reads_slowly_but_steadily_gets_all_and_who_takes_nothing_is_let_go() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--write-timeout", "1"]);
        let mut client = site.connect(&server);
        client.send(request("GET", "/stream?n=20&size=500000", &[], b""));
        client.read_head("GET").expect("a head");
        assert_eq!(client.read_chunks_slowly(20, Duration::from_millis(100)), 10_000_000, "{kind}");
        let before = server.proc().open_files();
        let mut stuck = site.connect(&server);
        stuck.shrink_receive_buffer();
        stuck.send(request("GET", "/fixed?n=50000000", &[], b""));
        eventually(PATIENCE, || server.proc().open_files() > before);
        eventually(PATIENCE, || server.proc().open_files() <= before);
    }
}
