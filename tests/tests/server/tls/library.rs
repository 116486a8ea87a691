//! TLS by the Rust API, for what the program does not show.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use greenlet::tls::TlsStream;
use greenserve::tls::{ServerConfig, TlsConfig, TlsFiles};
use greenserve::{Body, IntoResponse, Request, Response, Server, ServerHandle};
use greenserve_tests::{Client, PATIENCE, ServerProcess, in_time, request};
use rustls::ClientConnection;

use super::Site;

/// A server on a thread of its own, which ends with it.
struct Running {
    addrs: Vec<SocketAddr>,
    handle: ServerHandle,
    thread: Option<thread::JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start(server: Server, app: fn(Request) -> Response) -> Running {
        let addrs = server.local_addrs().iter().filter_map(|addr| addr.as_inet()).collect();
        let handle = server.handle();
        Running { addrs, handle, thread: Some(thread::spawn(move || server.serve(app))) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(Err(panic)) = self.thread.take().map(|thread| thread.join()) {
            std::panic::resume_unwind(panic);
        }
    }
}

fn connect(site: &Site, addr: SocketAddr) -> Client {
    let config = Arc::new(site.authority.client());
    Client::tls(addr, ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap())
}

fn files(site: &Site) -> TlsConfig {
    TlsFiles::new(&site.identity.certfile, &site.identity.keyfile).load().unwrap()
}

#[test]
fn addresses_bound_before_speak_tls_and_those_bound_after_do_not() {
    let site = Site::new();
    let server = Server::bind("127.0.0.1:0").unwrap().tls(&files(&site)).and_bind("127.0.0.1:0").unwrap();
    let running = Running::start(server, |req| {
        let version = req.tls().map_or("none".to_owned(), |tls| tls.version.to_string());
        version.into_response()
    });
    assert_eq!(connect(&site, running.addrs[0]).get("/").text(), "TLSv1.3");
    assert_eq!(Client::tcp(running.addrs[1]).get("/").text(), "none");
}

#[test]
fn one_green_thread_reads_while_another_writes() {
    const SIZE: usize = 4_000_000;
    let site = Site::new();
    let server = Server::bind("127.0.0.1:0").unwrap().tls(&files(&site));
    let running = Running::start(server, |mut req| {
        let mut upload = std::mem::take(req.body_mut());
        let reader = greenlet::spawn(move || {
            let mut all = Vec::new();
            upload.read_to_end(&mut all).map(|_| all)
        });
        Body::stream(move |out| {
            for piece in vec![b'w'; SIZE].chunks(50_000) {
                out.write_all(piece)?;
                out.flush()?;
            }
            let read = reader.join().unwrap()?;
            write!(out, "{}", read.len() == SIZE && read.iter().all(|byte| *byte == b'r'))
        })
        .into_response()
    });
    let (addr, config) = (running.addrs[0], site.authority.client());
    in_time(move || {
        // The client does both at once, too.
        let socket = greenlet::net::TcpStream::connect(addr).unwrap();
        let stream = Rc::new(TlsStream::connect(socket, config, "localhost", PATIENCE).unwrap());
        let writer = Rc::clone(&stream);
        let sending = greenlet::spawn(move || {
            (&*writer).write_all(&request("POST", "/", &["Connection: close"], &vec![b'r'; SIZE])).unwrap();
        });
        let mut answer = Vec::new();
        (&*stream).read_to_end(&mut answer).unwrap();
        sending.join().unwrap();
        assert_eq!(answer.iter().filter(|byte| **byte == b'w').count(), SIZE);
        assert!(answer.ends_with(b"true\r\n0\r\n\r\n"));
    });
}

#[test]
fn a_configuration_of_rustlss_own_is_made_again_by_reload() {
    let site = Site::new();
    let (certificate, key) = (site.identity.certificate.clone(), site.identity.key());
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let tls = TlsConfig::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(std::io::Error::other)?.with_no_client_auth();
        let config = builder.with_single_cert(vec![certificate.clone()], key.clone_key());
        config.map(Arc::new).map_err(std::io::Error::other)
    })
    .unwrap();
    let running =
        Running::start(Server::bind("127.0.0.1:0").unwrap().tls(&tls), |_| "served".into_response());
    assert_eq!(connect(&site, running.addrs[0]).get("/").text(), "served");
    tls.reload().unwrap();
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(connect(&site, running.addrs[0]).get("/").text(), "served");
}

#[test]
fn https_is_spoken_on_unix_sockets_too() {
    let site = Site::new();
    let socket = site.authority.scratch.join("s");
    let (cert, key) = (super::path(&site.identity.certfile), super::path(&site.identity.keyfile));
    let server = ServerProcess::builder()
        .args(["demo", "--certfile", &cert, "--keyfile", &key])
        .bind(format!("unix:{}", socket.display()))
        .start();
    let config = site.authority.client();
    in_time(move || {
        let socket = greenlet::net::UnixStream::connect(&socket).unwrap();
        let mut stream = TlsStream::connect(socket, config, "localhost", PATIENCE).unwrap();
        stream.write_all(&request("GET", "/plaintext", &["Connection: close"], b"")).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("Hello, World!"), "{answer}");
    });
    drop(server);
}
