//! Connections that begin with a PROXY header, over real sockets, with green threads and with OS threads.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenserve::http::ProxyProtocol;
use greenserve::{AccessLog, Exchange, Request, Server};
use support::{Client, Mode, Running, both};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.80 4711 443\r\n";
/// Longer than a connection keeps its green thread.
const LONG: Duration = Duration::from_millis(200);
const HOUR: Duration = Duration::from_secs(3600);

/// The same addresses as [`LINE`] in a block of version 2 with these extensions.
fn block(extensions: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 192, 0, 2, 80, 0x12, 0x67, 1, 187];
    let length = (addresses.len() + extensions.len()) as u16;
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length.to_be_bytes(), &addresses, extensions].concat()
}

/// Tells where the request came from, and ends with a full stop.
fn whence(req: Request) -> std::io::Result<String> {
    let (peer, local) = (req.peer_addr(), req.local_addr());
    let show = |addr: Option<greenserve::Addr>| addr.map(|addr| addr.to_string()).unwrap_or_default();
    let client = req.client_addr()?.map(|ip| ip.to_string()).unwrap_or_default();
    Ok(format!("{} {} {client} {}.", show(peer), show(local), req.scheme()?))
}

const PROXIED: &str = "192.0.2.7:4711 192.0.2.80:443 192.0.2.7 http.";

fn start(mode: Mode, protocol: ProxyProtocol) -> Running {
    start_with(mode, move |server| server.proxy_protocol(protocol))
}

fn start_with(mode: Mode, setup: impl FnOnce(Server) -> Server + Send + 'static) -> Running {
    Running::start(mode, |server| setup(server.keep_alive(HOUR)), whence)
}

#[test]
fn its_addresses_take_the_place_of_the_sockets_however_it_is_cut() {
    let headers =
        [(ProxyProtocol::V1, LINE.as_bytes().to_vec()), (ProxyProtocol::Auto, block(&[4, 0, 1, 0]))];
    both(|mode| {
        for (protocol, header) in &headers {
            let server = start(mode, *protocol);
            let all = [header, LAST.as_bytes()].concat();
            for cut in 1..=header.len() + 3 {
                let mut client = server.client();
                client.send(&all[..cut]);
                std::thread::sleep(Duration::from_millis(1));
                client.send(&all[cut..]);
                assert!(client.rest().ends_with(PROXIED), "cut at {cut}");
            }
            let mut client = server.client();
            for byte in &all {
                client.send([*byte]);
            }
            assert!(client.rest().ends_with(PROXIED), "byte by byte");
            assert!(server.answer(all).ends_with(PROXIED), "in one piece");
        }
    });
}

#[test]
fn it_holds_for_all_requests_of_the_connection_and_through_long_waits() {
    both(|mode| {
        let server = start_with(mode, |s| s.proxy_protocol(ProxyProtocol::Auto).header_timeout(HOUR));
        let mut client = server.client();
        // Silent for so long that a green thread leaves it.
        std::thread::sleep(LONG);
        client.send(LINE);
        std::thread::sleep(LONG);
        for _ in 0..2 {
            client.send([GET, GET].concat());
            client.until(PROXIED);
            client.until(PROXIED);
            std::thread::sleep(LONG);
        }
        client.send(LAST);
        assert!(client.rest().ends_with(PROXIED));
    });
}

#[test]
fn a_large_one_is_read_whole() {
    both(|mode| {
        let server = start(mode, ProxyProtocol::V2);
        let extensions = [&[0xee, 15, 0][..], &[b'x'; 15 * 256]].concat();
        let header = block(&extensions);
        assert!(server.answer([&header, LAST.as_bytes()].concat()).ends_with(PROXIED));
        let mut client = server.client();
        for piece in header.chunks(1000) {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(1));
        }
        client.send(LAST);
        assert!(client.rest().ends_with(PROXIED));
    });
}

#[test]
fn without_addresses_the_sockets_own_hold() {
    both(|mode| {
        let server = start(mode, ProxyProtocol::Auto);
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x03abc".to_vec();
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), b"PROXY UNKNOWN 192.0.2.7\r\n".to_vec(), local] {
            let mut client = server.client();
            let (own, there) = (client.stream.local_addr().unwrap(), client.stream.peer_addr().unwrap());
            client.send([&header, LAST.as_bytes()].concat());
            let expected = format!("{own} {there} 127.0.0.1 http.");
            assert!(client.rest().ends_with(&expected), "{}", String::from_utf8_lossy(&header));
        }
    });
}

#[test]
fn a_connection_without_one_or_with_a_wrong_one_is_closed_without_an_answer() {
    both(|mode| {
        for (protocol, bytes) in [
            (ProxyProtocol::Auto, GET.as_bytes().to_vec()),
            (ProxyProtocol::V1, block(&[])),
            (ProxyProtocol::V2, LINE.as_bytes().to_vec()),
            (ProxyProtocol::Auto, b"PROXY TCP4 a b 1 2\r\n".to_vec()),
            (ProxyProtocol::Auto, [b'\r'; 5].to_vec()),
        ] {
            let server = start(mode, protocol);
            let mut client = server.client();
            client.send([&bytes, GET.as_bytes()].concat());
            assert_eq!(client.rest_lossy(), "", "{protocol:?} {}", String::from_utf8_lossy(&bytes));
        }
    });
}

#[test]
fn a_client_that_leaves_within_it_is_closed() {
    both(|mode| {
        let server = start(mode, ProxyProtocol::Auto);
        for part in ["", "PROXY TCP4 "] {
            let mut client = server.client();
            client.send(part);
            client.finish();
            assert_eq!(client.rest(), "");
        }
        assert!(server.answer([LINE, LAST].concat()).ends_with(PROXIED), "others are served");
    });
}

#[test]
fn who_is_not_allowed_is_closed_whatever_he_sends() {
    both(|mode| {
        let server = start_with(mode, |s| {
            s.proxy_protocol(ProxyProtocol::Auto).proxy_allow_ips("10.0.0.0/8".parse().unwrap())
        });
        for bytes in [[LINE, GET].concat(), GET.to_owned()] {
            let mut client = server.client();
            client.send(bytes);
            assert_eq!(client.rest_lossy(), "");
        }
    });
}

#[test]
fn only_the_first_is_one() {
    both(|mode| {
        let server = start(mode, ProxyProtocol::Auto);
        let answers = server.answer([LINE, LINE, GET].concat());
        assert!(answers.starts_with("HTTP/1.1 400"), "{answers}");
        let mut client = server.client();
        client.send([LINE, GET].concat());
        client.until(PROXIED);
        client.send([LINE, GET].concat());
        assert!(client.rest().starts_with("HTTP/1.1 400"));
    });
}

#[test]
fn without_the_setting_it_is_no_request() {
    both(|mode| {
        let server = start_with(mode, |s| s);
        assert!(server.answer([LINE, GET].concat()).starts_with("HTTP/1.1 400"));
    });
}

#[test]
fn it_must_come_within_the_header_timeout() {
    both(|mode| {
        let server = start_with(mode, |s| s.proxy_protocol(ProxyProtocol::Auto).header_timeout(LONG));
        for part in ["", "PROXY TCP4 "] {
            let mut client = server.client();
            client.send(part);
            assert_eq!(client.rest(), "", "after {part:?}");
        }
        let mut client = server.client();
        client.send(LINE);
        assert_eq!(client.rest(), "", "the request, too");
    });
}

#[test]
fn a_server_that_stops_does_not_wait_for_it() {
    both(|mode| {
        let server = start_with(mode, |s| s.proxy_protocol(ProxyProtocol::Auto).header_timeout(HOUR));
        let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
        // All have been accepted when the last one is served.
        assert!(server.answer([LINE, LAST].concat()).ends_with(PROXIED));
        server.stop();
        for client in &mut clients {
            assert_eq!(client.rest_lossy(), "");
        }
    });
}

#[test]
fn tls_with_the_proxy_is_https() {
    both(|mode| {
        let server = start(mode, ProxyProtocol::V2);
        let with_tls = block(&[0x20, 0, 5, 1, 0, 0, 0, 0]);
        let answer = server.answer([&with_tls, LAST.as_bytes()].concat());
        assert!(answer.ends_with(&PROXIED.replace("http.", "https.")), "{answer}");
    });
}

#[test]
fn it_is_the_address_in_it_that_must_be_trusted() {
    let lied = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    both(|mode| {
        let server = start(mode, ProxyProtocol::Auto);
        // The proxy has passed on what a client wrote.
        assert!(server.answer([LINE, lied].concat()).ends_with(PROXIED));
        let server = start_with(mode, |s| {
            s.proxy_protocol(ProxyProtocol::Auto).forwarded_allow_ips("192.0.2.7".parse().unwrap())
        });
        let answer = server.answer([LINE, lied].concat());
        assert!(answer.ends_with("192.0.2.7:4711 192.0.2.80:443 6.6.6.6 https."), "{answer}");
        let answer = server.answer(["PROXY UNKNOWN\r\n", lied].concat());
        assert!(answer.ends_with(" 127.0.0.1 http."), "{answer}");
    });
}

#[derive(Clone, Default)]
struct Peers(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl AccessLog for Peers {
    fn log(&self, exchange: &Exchange<'_>) {
        self.0.lock().unwrap().push(exchange.peer.as_inet());
    }
}

#[test]
fn the_access_log_gets_to_see_its_address() {
    both(|mode| {
        let peers = Peers::default();
        let log = peers.clone();
        let server = start_with(mode, |s| s.proxy_protocol(ProxyProtocol::Auto).access_log(log));
        server.answer([LINE, GET, "nonsense\r\n\r\n"].concat());
        server.stop();
        let expected = Some(SocketAddr::from(([192, 0, 2, 7], 4711)));
        assert_eq!(*peers.0.lock().unwrap(), [expected; 2]);
    });
}
