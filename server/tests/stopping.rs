//! The server as a whole: its pool, its end, and the time it allows a request.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use greenserve::{Body, IntoResponse, Request};
use support::{Mode, PATIENCE, Running, all_ways, both, hello, split};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Waits for something that another thread brings about.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Suspends the handler in the way of the mode.
fn pause(mode: Mode, time: Duration) {
    match mode {
        Mode::Green => greenlet::sleep(time),
        Mode::Threads => std::thread::sleep(time),
    }
}

#[test]
fn a_full_pool_accepts_nobody_and_drops_nobody() {
    all_ways(|mode| {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
        let app = move |_| {
            let here = running.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(here, Ordering::SeqCst);
            pause(mode, Duration::from_millis(20));
            running.fetch_sub(1, Ordering::SeqCst);
            "served"
        };
        let server = Running::start(mode, |s| s.worker_connections(3), app);
        let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.0\r\n\r\n");
        }
        for client in &mut clients {
            assert!(client.rest().ends_with("served"));
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn idle_connections_hold_their_place_only_for_the_keep_alive_time() {
    all_ways(|mode| {
        let server =
            Running::start(mode, |s| s.worker_connections(1).keep_alive(Duration::from_millis(100)), hello);
        let mut first = server.client();
        first.send(GET);
        first.until("hello");
        let mut second = server.client();
        second.send(GET);
        second.until("hello");
        assert_eq!(first.rest(), "");
    });
}

#[test]
fn stop_ends_idle_connections_soon_and_requests_under_way_with_their_answer() {
    both(|mode| {
        let (entered, has_entered) = mpsc::channel();
        let entered = Mutex::new(entered);
        let server = Running::start(
            mode,
            |s| s.keep_alive(Duration::from_secs(3600)).header_timeout(Duration::from_secs(3600)),
            move |req: Request| {
                if req.path() == "/slow" {
                    entered.lock().unwrap().send(()).unwrap();
                    pause(mode, Duration::from_millis(300));
                }
                "done"
            },
        );
        let mut idle = server.client();
        idle.send(GET);
        idle.until("done");
        let mut silent = server.client();
        let mut slow = server.client();
        slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        has_entered.recv_timeout(PATIENCE).unwrap();
        server.handle.stop();
        assert_eq!(idle.rest(), "");
        assert_eq!(silent.rest(), "");
        let answer = slow.rest();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("done"), "{answer}");
        let addr = server.addr;
        server.stop();
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    });
}

#[test]
fn an_idle_connection_may_bring_one_more_request_right_after_the_stop() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s.keep_alive(Duration::from_secs(3600)), hello);
        let mut client = server.client();
        client.send(GET);
        client.until("hello");
        server.handle.stop();
        client.send(GET);
        let answer = client.rest();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("hello"), "{answer}");
        server.stop();
    });
}

#[test]
fn connections_that_the_kernel_completed_before_the_stop_are_served() {
    both(|mode| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let entered = Arc::new(AtomicUsize::new(0));
        let entering = Arc::clone(&entered);
        let server = Running::start(
            mode,
            |s| s.worker_connections(1),
            move |req: Request| {
                if req.path() == "/first" {
                    entering.fetch_add(1, Ordering::SeqCst);
                    let began = Instant::now();
                    while gone.lock().unwrap().try_recv().is_err() && began.elapsed() < PATIENCE {
                        pause(mode, Duration::from_millis(5));
                    }
                }
                "served"
            },
        );
        let mut first = server.client();
        first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("the first request runs", || entered.load(Ordering::SeqCst) == 1);
        let mut waiting: Vec<_> = (0..3).map(|_| server.client()).collect();
        waiting.iter_mut().for_each(|client| client.send(GET));
        server.handle.stop();
        std::thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        assert!(first.rest().ends_with("served"));
        for client in &mut waiting {
            let answer = client.rest();
            assert!(answer.ends_with("served") && answer.contains("connection: close"), "{answer}");
        }
    });
}

#[test]
fn what_outlasts_the_graceful_timeout_is_cut_off() {
    all_ways(|mode| {
        let (entered, has_entered) = mpsc::channel();
        let entered = Mutex::new(entered);
        let server = Running::start(
            mode,
            |s| s.graceful_timeout(Duration::from_millis(100)),
            move |_| {
                entered.lock().unwrap().send(()).unwrap();
                pause(mode, Duration::from_secs(5));
                "too late"
            },
        );
        let mut client = server.client();
        client.send(GET);
        has_entered.recv_timeout(PATIENCE).unwrap();
        server.stop();
        let answer = client.rest_lossy();
        match mode {
            Mode::Green => assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}"),
            Mode::Threads => assert_eq!(answer, ""),
        }
    });
}

#[test]
fn a_request_beyond_its_time_is_unwound_and_answered_503() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let unwound = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&unwound);
    let setup = |s: greenserve::Server| s.request_timeout(Duration::from_millis(100));
    let server = Running::start(Mode::Green, setup, move |req: Request| {
        let dropped = Dropped(Arc::clone(&counter));
        match req.path() {
            "/quick" => "quick".into_response(),
            "/mid" => Body::stream(move |out| {
                let _dropped = dropped;
                out.write_all(b"part")?;
                out.flush()?;
                greenlet::sleep(PATIENCE);
                Ok(())
            })
            .into_response(),
            _ => {
                greenlet::sleep(PATIENCE);
                "slow".into_response()
            }
        }
    });
    let mut client = server.client();
    client.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until("quick");
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection: close"), "{answer}");
    let mut client = server.client();
    client.send("GET /mid HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.rest_lossy();
    assert_eq!(split(&answer).1, "4\r\npart\r\n", "no last chunk");
    wait_until("all were unwound", || unwound.load(Ordering::SeqCst) == 3);
}

#[test]
fn a_thousand_green_connections_wait_at_once() {
    let server = Running::start(
        Mode::Green,
        |s| s.worker_connections(1000),
        |_| {
            greenlet::sleep(Duration::from_millis(300));
            "slept"
        },
    );
    let began = Instant::now();
    let mut clients: Vec<_> = (0..400).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.0\r\n\r\n"));
    clients.iter_mut().for_each(|client| assert!(client.rest().ends_with("slept")));
    // One after the other they would take two minutes.
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn several_addresses_are_served_at_once() {
    both(|mode| {
        let server = greenserve::Server::bind("127.0.0.1:0").unwrap().and_bind("127.0.0.1:0").unwrap();
        let addrs = server.local_addrs();
        assert_ne!(addrs[0], addrs[1]);
        let handle = server.handle();
        let thread = std::thread::spawn(move || match mode {
            Mode::Green => server.serve(hello),
            Mode::Threads => server.serve_threads(hello),
        });
        for addr in addrs {
            let mut stream = TcpStream::connect(addr.as_inet().unwrap()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("hello"));
        }
        handle.stop();
        thread.join().unwrap().unwrap();
    });
}

/// Is counted when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn quit_unwinds_green_threads_where_they_wait_and_ends_the_server() {
    for gracefully_before in [false, true] {
        let (entered, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (entering, dropping) = (Arc::clone(&entered), Arc::clone(&dropped));
        let server = Running::start(
            Mode::Green,
            |s| s.graceful_timeout(PATIENCE * 100).keep_alive(PATIENCE * 100),
            move |req: Request| {
                if req.path() == "/for-ever" {
                    let _dropped = Dropped(Arc::clone(&dropping));
                    entering.fetch_add(1, Ordering::SeqCst);
                    pause(Mode::Green, PATIENCE * 100);
                }
                "hello"
            },
        );
        let mut idle = server.client();
        idle.send(GET);
        idle.until("hello");
        let mut silent = server.client();
        let mut waiting = server.client();
        waiting.send("GET /for-ever HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("the request runs", || entered.load(Ordering::SeqCst) == 1);
        if gracefully_before {
            server.handle.stop();
            assert_eq!(idle.rest(), "");
        }
        server.handle.quit();
        assert!(server.handle.is_stopping() && !server.handle.is_ready());
        assert!(waiting.rest().starts_with("HTTP/1.1 503 "));
        assert_eq!(silent.rest(), "");
        server.stop();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn quit_cuts_off_the_connections_of_os_threads_and_does_not_wait_for_them() {
    let (entered, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entering, going) = (Arc::clone(&entered), Arc::clone(&go));
    let server = Running::start(
        Mode::Threads,
        |s| s.graceful_timeout(PATIENCE * 100),
        move |_| {
            entering.fetch_add(1, Ordering::SeqCst);
            wait_until("the server has ended", || going.load(Ordering::SeqCst) == 1);
            "hello"
        },
    );
    let mut waiting = server.client();
    waiting.send(GET);
    wait_until("the request runs", || entered.load(Ordering::SeqCst) == 1);
    server.handle.quit();
    assert_eq!(waiting.rest(), "");
    server.stop();
    go.store(1, Ordering::SeqCst);
}

#[test]
fn a_server_that_is_not_ready_serves_all_and_asks_them_to_go() {
    both(|mode| {
        let server = Running::start(mode, |s| s.keep_alive(PATIENCE), hello);
        let mut idle = server.client();
        idle.send(GET);
        idle.until("hello");
        assert!(server.handle.is_ready());
        server.handle.set_ready(false);
        assert!(!server.handle.is_ready() && !server.handle.is_stopping());
        for client in [&mut idle, &mut server.client()] {
            client.send(GET);
            let answer = client.rest();
            assert!(answer.contains("connection: close\r\n") && answer.ends_with("hello"), "{answer}");
        }
        server.handle.set_ready(true);
        let mut client = server.client();
        for _ in 0..2 {
            client.send(GET);
            client.until("hello");
        }
        server.handle.stop();
        server.handle.set_ready(true);
        assert!(!server.handle.is_ready(), "a stop is for good");
    });
}
