//! The server under test, in this process, and its application.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use greenserve::{
    Body, BodyError, HeaderName, HeaderValue, IntoResponse, Request, Response, Server, ServerHandle,
    StatusCode, Version,
};

/// How a server is set up.
pub(crate) type Setup = fn(Server) -> Server;

/// What serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Green,
    Threads,
}

/// A running server; stopped when dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    pub(crate) fn start(mode: Mode, setup: Setup) -> Running {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addrs()[0].as_inet().unwrap();
        let handle = server.handle();
        let thread = std::thread::spawn(move || {
            // No row is about time.
            let long = Duration::from_secs(600);
            let server = server.header_timeout(long).body_timeout(long).keep_alive(long);
            match mode {
                Mode::Green => setup(server).serve(app),
                Mode::Threads => setup(server).serve_threads(app),
            }
        });
        Running { addr, handle, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("the server panicked").expect("the server failed");
            }
        }
    }
}

/// Where `/gate` waits.
pub(crate) struct Gate {
    /// Somebody has come.
    pub(crate) begun: AtomicBool,
    /// They may go on.
    pub(crate) open: AtomicBool,
}

pub(crate) static GATE: Gate = Gate { begun: AtomicBool::new(false), open: AtomicBool::new(false) };

/// The settings as they are.
pub(crate) fn plain(server: Server) -> Server {
    server
}

/// Says what it saw; some paths do something else.
fn app(mut req: Request) -> Response {
    match req.path() {
        "/unread" => return "unread".into_response(),
        "/one" => {
            let mut one = [0];
            let read = req.body_mut().read_exact(&mut one);
            return read.map(|()| format!("one {}", one.escape_ascii())).into_response();
        }
        "/caught" => {
            let error = req.into_body().into_bytes().err().and_then(|error| BodyError::of(&error));
            return format!("caught {error:?}").into_response();
        }
        "/fields" => {
            let fields = req.headers_in_order().filter(|(name, _)| *name != "Host");
            let fields: Vec<String> =
                fields.map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
            return fields.join("|").into_response();
        }
        "/map" => {
            let mut fields: Vec<String> =
                req.headers().iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            fields.sort();
            return fields.join("|").into_response();
        }
        "/gate" => {
            GATE.begun.store(true, Ordering::SeqCst);
            while !GATE.open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            return "passed".into_response();
        }
        "/close" => return ([("connection", "x, Close")], "bye").into_response(),
        "/stream" => return Body::stream(|out| out.write_all(b"streamed")).into_response(),
        "/short" => return Body::sized_stream(10, |out| out.write_all(b"short")).into_response(),
        "/long" => return Body::sized_stream(4, |out| out.write_all(b"longer")).into_response(),
        "/panic" => panic!("on purpose"),
        "/panic-later" => {
            return Body::stream(|out| {
                out.write_all(b"first")?;
                out.flush()?;
                panic!("on purpose")
            })
            .into_response();
        }
        "/framing-of-its-own" => {
            let fields = [("transfer-encoding", "gzip"), ("keep-alive", "9"), ("trailer", "x"), ("te", "x")];
            return (fields, "abc").into_response();
        }
        "/injected" => return ([("x", "a\r\nSet-Cookie: b")], "abc").into_response(),
        "/injected-name" => return ([("x: a\r\ny", "b")], "abc").into_response(),
        "/of-its-own" => {
            let mut response = "abc".into_response();
            let fields = response.headers_mut();
            fields.insert(HeaderName::from_static("server"), HeaderValue::from_static("mine"));
            return response;
        }
        path if path.starts_with("/status/") => {
            let status = path["/status/".len()..].parse().ok().and_then(|s| StatusCode::from_u16(s).ok());
            return (status.unwrap_or(StatusCode::BAD_REQUEST), "text").into_response();
        }
        _ => {}
    }
    let mut body = Vec::new();
    if let Err(error) = req.body_mut().read_to_end(&mut body) {
        return error.into_response();
    }
    let version = if req.version() == Version::HTTP_10 { "1.0" } else { "1.1" };
    let authority = req.authority().unwrap_or("-");
    let body = body.escape_ascii();
    format!("{} {} {version} {authority} [{body}]", req.method(), req.raw_target()).into_response()
}
