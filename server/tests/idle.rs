//! Connections that wait for their next request for so long that they have given up their green thread.

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use greenserve::{Request, Server};
use support::{Client, Mode, PATIENCE, Running, both, hello};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Longer than a connection keeps its green thread.
const LONG: Duration = Duration::from_millis(400);
const HOUR: Duration = Duration::from_secs(3600);

fn patient(server: Server) -> Server {
    server.keep_alive(HOUR).header_timeout(HOUR)
}

fn served(server: &Running) -> Client {
    let mut client = server.client();
    client.send(GET);
    client.until("hello");
    client
}

#[test]
fn the_next_request_is_served_however_long_it_takes_to_come() {
    both(|mode| {
        let server = Running::start(mode, patient, hello);
        let mut silent = server.client();
        let mut client = served(&server);
        for _ in 0..3 {
            std::thread::sleep(LONG);
            client.send(GET);
            client.until("hello");
            client.send(GET);
            client.until("hello");
        }
        silent.send(GET);
        silent.until("hello");
    });
}

#[test]
fn no_green_thread_stays_with_an_idle_connection() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let server = Running::start(Mode::Green, patient, move |_: Request| {
        tell.lock().unwrap().send(greenlet::stats().greenlets).unwrap();
        "hello"
    });
    let mut clients: Vec<_> = (0..20).map(|_| served(&server)).collect();
    let began = Instant::now();
    loop {
        std::thread::sleep(LONG);
        while told.try_recv().is_ok() {}
        clients[0].send(GET);
        clients[0].until("hello");
        // One that accepts, and the one that serves.
        let greenlets = told.recv_timeout(PATIENCE).unwrap();
        if greenlets <= 3 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{greenlets} green threads for 20 idle connections");
    }
    for client in &mut clients {
        client.send(GET);
        client.until("hello");
    }
}

#[test]
fn a_request_in_pieces_and_several_at_once_are_served_after_a_long_wait() {
    both(|mode| {
        let server = Running::start(mode, patient, |req: Request| req.path().to_owned() + ".");
        let mut client = server.client();
        client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until("/first.");
        std::thread::sleep(LONG);
        client.send("GET /a HTTP/1.1\r\nHo");
        std::thread::sleep(LONG);
        client.send("st: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET /c HT");
        client.until("/a.");
        client.until("/b.");
        std::thread::sleep(LONG);
        client.send("TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(client.rest().ends_with("/c."));
    });
}

#[test]
fn the_keep_alive_time_counts_from_the_last_answer() {
    both(|mode| {
        let server = Running::start(mode, |s| s.keep_alive(LONG * 2), hello);
        let mut client = served(&server);
        let began = Instant::now();
        assert_eq!(client.rest(), "");
        // The hub's clock may be behind by a turn; the client's began a little late.
        assert!(began.elapsed() > LONG, "{:?}", began.elapsed());
    });
}

#[test]
fn the_place_in_the_pool_stays_taken_and_is_free_after() {
    both(|mode| {
        let server = Running::start(mode, |s| patient(s).worker_connections(1), hello);
        let first = served(&server);
        let mut second = server.client();
        second.send(GET);
        second.stream.set_read_timeout(Some(LONG)).unwrap();
        let early = second.stream.peek(&mut [0; 1]);
        assert!(early.is_err(), "served although the pool is full");
        second.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(first);
        second.until("hello");
    });
}

#[test]
fn stop_ends_those_that_have_waited_for_long() {
    both(|mode| {
        let server = Running::start(mode, patient, hello);
        let mut silent = server.client();
        let mut clients: Vec<_> = (0..5).map(|_| served(&server)).collect();
        std::thread::sleep(LONG);
        server.handle.stop();
        for client in &mut clients {
            assert_eq!(client.rest(), "");
        }
        assert_eq!(silent.rest(), "");
        server.stop();
    });
}

#[test]
fn a_client_that_half_closes_or_resets_after_a_long_wait_is_let_go() {
    both(|mode| {
        let server = Running::start(mode, |s| patient(s).worker_connections(2), hello);
        let mut half = served(&server);
        let reset = served(&server);
        std::thread::sleep(LONG);
        half.finish();
        assert_eq!(half.rest(), "");
        socket2::SockRef::from(&reset.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(reset);
        drop([served(&server), served(&server)]);
    });
}

#[test]
fn a_last_request_with_the_clients_end_is_answered_after_a_long_wait() {
    both(|mode| {
        let server = Running::start(mode, patient, hello);
        let mut client = served(&server);
        std::thread::sleep(LONG);
        client.send(GET);
        client.finish();
        assert!(client.rest().ends_with("hello"));
    });
}

#[test]
fn an_answer_does_not_wait_for_the_handler_of_the_next_request() {
    let go = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gone = go.clone();
    let server = Running::start(Mode::Green, patient, move |req: Request| {
        if req.path() == "/waits" {
            let began = Instant::now();
            while !gone.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(began.elapsed() < PATIENCE, "the answers before this one did not arrive");
                greenlet::sleep(Duration::from_millis(1));
            }
        }
        req.path().to_owned() + "."
    });
    let mut client = server.client();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..3 {
        go.store(false, std::sync::atomic::Ordering::SeqCst);
        client.send([get("/a"), get("/b"), get("/waits"), get("/c")].concat());
        client.until("/a.");
        client.until("/b.");
        go.store(true, std::sync::atomic::Ordering::SeqCst);
        client.until("/waits.");
        client.until("/c.");
    }
}

#[test]
fn killing_the_green_thread_that_serves_cuts_off_those_that_wait_too() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addrs()[0].as_inet().unwrap();
    let (kill, killed) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let serving = greenlet::spawn(move || patient(server).serve(hello));
        greenlet::unblock(move || killed.recv_timeout(PATIENCE).unwrap());
        serving.kill().unwrap();
        greenlet::sleep(Duration::from_millis(1));
        greenlet::stats()
    });
    let mut client = Client::connect(addr);
    client.send(GET);
    client.until("hello");
    std::thread::sleep(LONG);
    kill.send(()).unwrap();
    assert_eq!(client.rest(), "");
    let left = thread.join().unwrap();
    assert_eq!((left.greenlets, left.descriptors, left.timers), (0, 0, 0), "{left:?}");
}
