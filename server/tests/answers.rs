//! A handler's answer over real sockets, with green threads and with OS threads: streams, files, failures, and who hears of
//! them. How answers are framed is the matter of the behaviour tests `rfc`.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenserve::{AccessLog, Body, Exchange, IntoResponse, Request, Response};
use support::{Running, both, split};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn streams_are_chunked_and_flushed_when_asked() {
    both(|mode| {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let server = Running::start(
            mode,
            |s| s,
            move |_| {
                let gone = Arc::clone(&gone);
                Body::stream(move |out| {
                    out.write_all(b"one")?;
                    out.write_all(b"")?;
                    out.write_all(b"two")?;
                    out.flush()?;
                    gone.lock().unwrap().recv_timeout(support::PATIENCE).map_err(std::io::Error::other)?;
                    out.flush()?;
                    out.write_all(&[b'x'; 20])?;
                    out.write_all(&vec![b'y'; 40_000])
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        let head = client.until("\r\n\r\n");
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{head}"
        );
        assert_eq!(client.until("two\r\n"), "6\r\nonetwo\r\n");
        go.send(()).unwrap();
        let rest = client.until("0\r\n\r\n");
        assert_eq!(rest, format!("{:x}\r\n{}{}\r\n0\r\n\r\n", 40_020, "x".repeat(20), "y".repeat(40_000)));
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        go.send(()).unwrap();
        let old = client.rest();
        assert!(
            !split(&old).0.contains("transfer-encoding") && old.contains("connection: close"),
            "{}",
            split(&old).0
        );
        assert_eq!(split(&old).1.len(), 6 + 20 + 40_000);
    });
}

#[test]
fn a_body_that_breaks_its_word_ends_the_connection() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| match req.path() {
                "/short" => Body::sized_stream(10, |out| out.write_all(b"short")).into_response(),
                "/long" => Body::sized_stream(4, |out| out.write_all(b"longer")).into_response(),
                "/header-short" => ([("content-length", "10")], Body::from("short")).into_response(),
                _ => ([("content-length", "4")], Body::from("longer")).into_response(),
            },
        );
        for (path, head, body) in [
            ("/short", 10, "short"),
            ("/long", 4, "long"),
            ("/header-short", 10, "short"),
            ("/header-long", 4, "long"),
        ] {
            let mut client = server.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = client.rest_lossy();
            assert!(answer.contains(&format!("content-length: {head}\r\n")), "{answer}");
            assert_eq!(split(&answer).1, body, "{path}");
        }
        let mut client = server.client();
        client.send([GET.replace("/ ", "/long "), GET.into()].concat());
        assert_eq!(client.rest().matches("HTTP/1.1").count(), 1, "nothing follows a body that was cut");
    });
}

#[test]
fn a_panic_is_500_and_harms_nobody_else() {
    both(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req: Request| -> Response {
                match req.path() {
                    "/panic" => panic!("on purpose"),
                    "/mid" => Body::stream(|out| {
                        out.write_all(b"first")?;
                        out.flush()?;
                        panic!("on purpose")
                    })
                    .into_response(),
                    "/unflushed" => Body::stream(|out| {
                        out.write_all(b"first")?;
                        panic!("on purpose")
                    })
                    .into_response(),
                    _ => "fine".into_response(),
                }
            },
        );
        for path in ["/panic", "/unflushed"] {
            let answer = server.answer(format!("{GET}GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("HTTP/1.1 500 ") && answer.contains("connection: close"), "{answer}");
            assert!(!answer.contains("on purpose") && !answer.contains("first"), "{answer}");
        }
        let mut client = server.client();
        client.send("GET /mid HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest_lossy();
        assert!(answer.ends_with("5\r\nfirst\r\n"), "no last chunk: {answer}");
        assert_eq!(split(&server.answer(GET.replace("Host: a", "Host: a\r\nConnection: close"))).1, "fine");
    });
}

#[test]
fn files_are_sent_whole_and_in_part() {
    let path = std::env::temp_dir().join(format!("greenserve-file-{}", std::process::id()));
    let content: String = (0..300_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    std::fs::write(&path, &content).unwrap();
    both(|mode| {
        let path = path.clone();
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let file = std::fs::File::open(&path).unwrap();
                match req.path() {
                    "/all" => Body::file(file, 0, 300_000),
                    "/part" => Body::file(file, 100_000, 50_000),
                    "/small" => Body::file(file, 5, 10),
                    _ => Body::file(file, 250_000, 100_000),
                }
            },
        );
        let get = |path| {
            let answer =
                server.answer(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            split(&answer).1.to_owned()
        };
        assert!(get("/all") == content);
        assert!(get("/part") == content[100_000..150_000]);
        assert_eq!(get("/small"), &content[5..15]);
        let mut client = server.client();
        client.send("GET /beyond HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest_lossy();
        assert!(
            answer.contains("content-length: 100000\r\n") && split(&answer).1.len() == 50_000,
            "never padded"
        );
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_access_log_hears_of_every_answer() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl AccessLog for Lines {
        fn log(&self, exchange: &Exchange<'_>) {
            let line =
                format!("{:?} {} {}", exchange.request_line(), exchange.status.as_u16(), exchange.body_sent);
            self.0.lock().unwrap().push(line);
        }
    }
    both(|mode| {
        let lines = Lines::default();
        let log = lines.clone();
        let server = Running::start(
            mode,
            |s| s.access_log(log),
            |req: Request| match req.path() {
                "/panic" => panic!("on purpose"),
                _ => Body::stream(|out| out.write_all(b"12345")),
            },
        );
        server.answer(format!("{GET}GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"));
        server.answer("nonsense\r\n");
        server.stop();
        let mut lines = lines.0.lock().unwrap().clone();
        lines.sort();
        assert_eq!(
            lines,
            ["None 400 64", "Some(\"GET / HTTP/1.1\") 200 5", "Some(\"GET /panic HTTP/1.1\") 500 22"]
        );
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    both(|mode| {
        let outcome = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&outcome);
        let server = Running::start(
            mode,
            |s| s.write_timeout(Duration::from_millis(200)),
            move |_| {
                let seen = Arc::clone(&seen);
                Body::stream(move |out| {
                    let piece = vec![0; 1 << 20];
                    let error = (0..1000).find_map(|_| out.write_all(&piece).err());
                    *seen.lock().unwrap() = error.as_ref().map(std::io::Error::kind);
                    Err(error.unwrap())
                })
            },
        );
        let mut client = server.client();
        client.send(GET);
        let began = std::time::Instant::now();
        while outcome.lock().unwrap().is_none() {
            assert!(began.elapsed() < support::PATIENCE, "the writer never gave up");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(client);
    });
}
