//! The scheme, and a PROXY header before the handshake.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenserve_tests::{Client, ServerProcess};
use rustls::ClientConnection;

use super::{KINDS, Site};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.80 4711 443\r\n";
/// Longer than a connection keeps its green thread.
const LONG: Duration = Duration::from_millis(200);

/// The same in version 2, with an extension that says nothing.
fn block() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 192, 0, 2, 80, 0x12, 0x67, 1, 187, 4, 0, 1, 0];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses].concat()
}

/// A client, and what it has to say first, which it has not sent.
fn client(site: &Site, server: &ServerProcess) -> (Client, Vec<u8>) {
    let name = "localhost".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(site.authority.client()), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    (Client::tls(server.addr(), connection), hello)
}

#[track_caller]
fn expect_proxied(client: &mut Client) {
    client.handshake().unwrap();
    let seen = client.get("/environ").json();
    assert_eq!((&seen["peer"], &seen["client"]), (&"192.0.2.7:4711".into(), &"192.0.2.7".into()));
    assert_eq!(seen["scheme"], "https");
    for (name, value) in [
        ("wsgi.url_scheme", "https"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("SERVER_PORT", "443"),
        ("PROXY_ADDR", "192.0.2.80"),
    ] {
        assert_eq!(seen["environ"][name], value, "{name}");
    }
}

#[test]
fn the_scheme_is_https_whatever_a_stranger_says() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--forwarded-allow-ips", ""]);
        let mut client = site.connect(&server);
        client.send(greenserve_tests::request("GET", "/environ", &["X-Forwarded-Proto: http"], b""));
        let seen = client.response().json();
        assert_eq!(
            (&seen["scheme"], &seen["environ"]["wsgi.url_scheme"]),
            (&"https".into(), &"https".into())
        );
    }
}

#[test]
fn a_proxy_header_comes_before_the_handshake_however_it_is_cut() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--proxy-protocol", "auto"]);
        for header in [LINE.to_vec(), block()] {
            // With 0 all of it comes at once, and with the header's length the handshake in a segment of its own.
            for cut in 0..=header.len() + 6 {
                let (mut client, hello) = client(&site, &server);
                let all = [&header[..], &hello].concat();
                client.socket().write_all(&all[..cut]).unwrap();
                if cut > 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                client.socket().write_all(&all[cut..]).unwrap();
                expect_proxied(&mut client);
            }
        }
    }
}

#[test]
fn a_connection_may_be_silent_before_its_proxy_header_and_before_its_handshake() {
    for kind in KINDS {
        let site = Site::new();
        let patient = ["--header-timeout", "600", "--handshake-timeout", "600", "--keep-alive", "600"];
        let server = site.serve(&[&["-k", kind, "--proxy-protocol", "v1"], &patient[..]].concat());
        let (mut client, hello) = client(&site, &server);
        for bytes in [LINE, &hello] {
            thread::sleep(LONG);
            client.socket().write_all(bytes).unwrap();
        }
        expect_proxied(&mut client);
        thread::sleep(LONG);
        expect_proxied(&mut client);
    }
}

#[test]
fn a_graceful_stop_does_not_wait_for_a_proxy_header_or_the_handshake_after_it() {
    for kind in KINDS {
        let site = Site::new();
        let patient = ["--header-timeout", "600", "--handshake-timeout", "600", "--graceful-timeout", "600"];
        let mut server = site.serve(&[&["-k", kind, "--proxy-protocol", "v1"], &patient[..]].concat());
        let (mut silent, _) = client(&site, &server);
        let (mut between, _) = client(&site, &server);
        between.socket().write_all(LINE).unwrap();
        let (mut served, hello) = client(&site, &server);
        served.socket().write_all(&[LINE, &hello].concat()).unwrap();
        expect_proxied(&mut served);
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit().success(), "{kind}: {}", server.log());
        silent.expect_gone();
        between.expect_gone();
    }
}

#[test]
fn what_comes_without_a_proxy_header_is_closed_without_a_word() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--proxy-protocol", "auto"]);
        let mut client = site.connect(&server);
        assert!(client.handshake().is_err(), "{kind}");
        assert!(server.wait_for_log("closed:").contains("127.0.0.1"), "{kind}");
    }
}
