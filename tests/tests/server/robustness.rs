//! Nonsense, floods and shortages: the server answers what it can and is there for the next one.

use std::thread;
use std::time::Duration;

use greenserve_tests::{
    Client, PATIENCE, Proc, ReadError, ServerProcess, eventually, limit_open_files, request,
};

/// A generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Some requests, with a few bytes changed, taken out, put in or doubled.
fn mutated(numbers: &mut Numbers) -> Vec<u8> {
    let chunked = "POST /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
    let seeds = [
        request("GET", "/echo/a%20b?x=1", &["Accept: */*", "Cookie: a=b; c=d"], b""),
        request("POST", "/upload", &["Content-Type: text/plain"], b"hello world"),
        chunked.as_bytes().to_vec(),
        request("POST", "/ignore-body", &["Expect: 100-continue", "Connection: keep-alive"], b"hello"),
        request("HEAD", "/fixed?n=10", &["Connection: close"], b""),
        b"GET http://test:80/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(),
    ];
    let mut bytes = [&seeds[numbers.below(seeds.len())][..], &seeds[numbers.below(seeds.len())]].concat();
    let special = b"\r\n\0 :;,\t\"\\%/?#*0fF9-+x\x7f\x80\xff";
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let byte = special[numbers.below(special.len())];
        match numbers.below(4) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => {
                let end = (at + 1 + numbers.below(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

#[test]
fn mutated_requests_get_well_formed_answers_or_none() {
    for kind in ["green", "threads"] {
        let server = ServerProcess::start(["demo", "-k", kind]);
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for n in 0..1000 {
            let bytes = mutated(&mut numbers);
            let mut client = server.connect();
            // it may have been refused before all was sent
            let _ = client.try_send(&bytes);
            client.finish_sending();
            let rest = match client.read_rest() {
                Ok(rest) => rest,
                Err(ReadError::Failed(_)) => continue,
                Err(error) => panic!("{kind} {n}: {error} to {:?}", String::from_utf8_lossy(&bytes)),
            };
            // which answers belong to HEAD cannot be told, so only the form of the first is looked at
            let form_is_good = rest.is_empty() || rest.starts_with(b"HTTP/1.1 ");
            assert!(form_is_good, "{kind} {n}: {:?}", String::from_utf8_lossy(&rest));
        }
        assert_eq!(server.get("/plaintext").status, 200);
        assert!(!server.log().contains("panicked"), "{kind}: {}", server.log());
    }
}

#[test]
fn https_on_a_plain_port_is_refused_at_once_and_named_in_the_log() {
    let server = ServerProcess::start(["demo", "--header-timeout", "600"]);
    let mut client = server.connect();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert_eq!(client.response().status, 400);
    client.expect_close();
    eventually(PATIENCE, || server.log().contains("a TLS handshake on a port that speaks plain HTTP"));
}

#[test]
fn a_server_without_free_descriptors_waits_and_goes_on() {
    for kind in ["green", "threads"] {
        let server =
            ServerProcess::start(["demo", "-k", kind, "--keep-alive", "600", "--header-timeout", "600"]);
        assert_eq!(server.get("/plaintext").status, 200);
        let open = server.proc().open_files();
        limit_open_files(server.pid(), open as u64 + 8);
        let mut clients: Vec<Client> = (0..30).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(request("GET", "/plaintext", &[], b""));
        }
        // some are served, then there is nothing left to serve the others with
        eventually(PATIENCE, || server.log().contains("accept") || server.log().contains("descriptor"));
        let before = server.proc().cpu_time();
        thread::sleep(Duration::from_millis(600));
        let spent = server.proc().cpu_time() - before;
        assert!(spent < Duration::from_millis(300), "{kind}: {spent:?} of computing in 600 ms of waiting");
        assert!(server.log().lines().count() < 100, "{kind}: it says so, but not all the time");
        // as those who are served leave, the others get their turn
        for mut client in clients {
            assert_eq!(client.response().text(), "Hello, World!", "{kind}");
        }
        assert_eq!(server.get("/plaintext").status, 200);
    }
}

#[test]
fn a_flood_of_requests_by_one_who_reads_nothing_takes_no_memory() {
    let server = ServerProcess::start(["demo"]);
    assert_eq!(server.get("/fixed?n=100000").status, 200);
    let before = server.proc().resident();
    let mut client = server.connect();
    client.shrink_receive_buffer();
    client.set_patience(Duration::from_millis(500));
    let batch = [request("GET", "/fixed?n=10000", &[], b""), request("GET", "/plaintext", &[], b"")].concat();
    let batch = batch.repeat(100);
    let taken = (0..1000).take_while(|_| client.try_send(&batch).is_ok()).count();
    assert!(taken < 1000, "the server reads on although its answers are not read");
    let grown = server.proc().resident().saturating_sub(before);
    assert!(grown < 20_000_000, "the server grew by {grown} bytes");
    assert_eq!(server.get("/plaintext").status, 200);
    client.reset();
}

#[test]
fn waiting_costs_no_computing_whatever_the_clients_have_left_in_their_sockets() {
    let server = ServerProcess::start(["demo", "--keep-alive", "600", "--header-timeout", "600"]);
    let mut clients: Vec<Client> = (0..12).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        match n % 4 {
            0 => {
                client.send(request("GET", "/sleep?ms=60000", &[], b""));
                client.finish_sending();
            }
            1 => {
                client.send(request("POST", "/sleep?ms=60000", &["Content-Length: 100000"], b""));
                client.send(vec![b'x'; 50_000]);
            }
            2 => client.send("GET / HTTP/1.1\r\n"),
            _ => {
                client.shrink_receive_buffer();
                client.send(request("GET", "/stream?n=10000&size=100000", &[], b""));
            }
        }
    }
    let settled = |server: &ServerProcess| {
        let mut last = Duration::MAX;
        eventually(PATIENCE, || {
            let now = server.proc().cpu_time();
            thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut last, now) == now
        });
    };
    settled(&server);
    let before = server.proc().cpu_time();
    thread::sleep(Duration::from_millis(600));
    let spent = server.proc().cpu_time() - before;
    assert!(spent < Duration::from_millis(100), "{spent:?} of computing in 600 ms of waiting");
    assert!(Proc::new(server.pid()).threads() < 10);
}

#[test]
fn a_client_that_takes_its_answer_slowly_but_without_pause_is_not_cut_off() {
    let server = ServerProcess::start(["demo", "--write-timeout", "2"]);
    let mut client = server.connect();
    client.shrink_receive_buffer_to(32 * 1024);
    client.send(request("GET", "/stream?n=80&size=100000", &[], b""));
    client.read_head("GET").expect("a head");
    // about a megabyte a second, of what the kernel has buffered in megabytes
    let mut total = 0;
    while total < 8_000_000 {
        total += client.read_chunk().len();
        thread::sleep(Duration::from_millis(80));
    }
    assert_eq!(total, 8_000_000);
}
