//! How a connection begins: what is agreed on, what is refused, and that nobody waits for anybody else.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use greenserve_tests::{Client, PATIENCE, ServerProcess, eventually, request};
use rustls::{ClientConfig, HandshakeKind};

use super::{KINDS, Site, connect, connect_with};

/// Shakes hands, and tells why that failed; in TLS 1.3 the server's word may come only with the first read.
fn failure(client: &mut Client) -> String {
    match client.handshake() {
        Err(error) => error.to_string(),
        Ok(()) => client.try_response().unwrap_err().to_string(),
    }
}

#[test]
fn http_1_1_is_the_one_protocol_offered() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind]);
        let offering = |protocols: &[&str]| {
            let mut config = site.authority.client();
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            connect(&server, config, "localhost")
        };
        for (protocols, chosen) in [
            (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let mut client = offering(protocols);
            assert_eq!(client.get("/plaintext").status, 200);
            assert_eq!(client.tls_state().alpn_protocol(), chosen);
        }
        let error = failure(&mut offering(&["h2"]));
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        let line = server.wait_for_log("the TLS handshake failed");
        assert!(line.contains("[INFO] 127.0.0.1:"), "the peer is named: {line}");
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--access-logfile", "-"]);
        let mut client = server.connect();
        client.send(request("GET", "/plaintext", &[], b""));
        let response = client.response();
        assert_eq!((response.status, response.from_app()), (400, false));
        assert!(response.text().contains("speaks HTTPS"), "{}", response.text());
        assert!(response.says_close());
        client.expect_close();
        let line = server.wait_for_log("plain HTTP came to a port that speaks HTTPS");
        assert!(line.contains(&client.local_addr().to_string()), "{line}");
        server.wait_for_output("\" 400 ").find('-').unwrap();
        assert_eq!(site.connect(&server).get("/plaintext").status, 200);
    }
}

#[test]
fn tls_on_a_plain_port_fails_at_once_and_is_logged() {
    for kind in KINDS {
        let server = ServerProcess::start(["demo", "-k", kind]);
        let mut client = Site::new().connect(&server);
        client.handshake().unwrap_err();
        let line = server.wait_for_log("a TLS handshake on a port that speaks plain HTTP");
        assert!(line.contains(&client.local_addr().to_string()), "{line}");
    }
}

#[test]
fn what_is_neither_tls_nor_http_is_refused_with_an_alert() {
    let site = Site::new();
    let server = site.serve(&[]);
    let mut client = server.connect();
    // a ClientHello of one byte
    client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00");
    let alert = client.read_rest().unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert (RFC 8446, 6): {alert:?}");
    server.wait_for_log("the TLS handshake failed");
}

#[test]
fn a_handshake_that_takes_too_long_is_cut_off_and_holds_up_nobody() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--handshake-timeout", "0.5"]);
        let mut silent = server.connect();
        let mut half = server.connect();
        half.send(b"\x16\x03\x01\x02\x00\x01\x00");
        // each byte comes in time, all of them never would
        let dripping = server.connect();
        let mut socket = dripping.socket().try_clone().unwrap();
        let drip = thread::spawn(move || {
            let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], &[0; 300]].concat();
            hello.iter().all(|byte| {
                thread::sleep(Duration::from_millis(100));
                socket.write_all(&[*byte]).is_ok()
            })
        });
        assert_eq!(site.connect(&server).get("/plaintext").status, 200, "meanwhile");
        silent.expect_gone();
        half.expect_gone();
        assert!(!drip.join().unwrap(), "{kind}: all was taken");
        eventually(PATIENCE, || {
            server.log().matches("the TLS handshake was not done within 500ms").count() == 3
        });
    }
}

#[test]
fn who_leaves_before_saying_anything_is_no_news() {
    for kind in KINDS {
        let site = Site::new();
        let server = site.serve(&["-k", kind, "--log-level", "debug"]);
        drop(server.connect());
        let line = server.wait_for_log("left before the TLS handshake");
        assert!(line.contains("[DEBUG]"), "{line}");
        let mut cut = server.connect();
        cut.send(b"\x16\x03\x01");
        cut.finish_sending();
        server.wait_for_log("the TLS handshake failed: the client hung up");
    }
}

#[test]
fn an_older_version_than_the_least_is_refused() {
    let site = Site::new();
    let server = site.serve(&["--tls-min-version", "1.3"]);
    let old = site.authority.client_of_version(&rustls::version::TLS12);
    let error = failure(&mut connect(&server, old, "localhost"));
    assert!(error.contains("ProtocolVersion"), "{error}");
    assert_eq!(site.connect(&server).get("/plaintext").status, 200);
}

#[test]
fn sessions_are_resumed() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let site = Site::new();
        let server = site.serve(&[]);
        let config: Arc<ClientConfig> = Arc::new(site.authority.client_of_version(version));
        let kind = || {
            let mut client = connect_with(&server, &config, "localhost");
            assert_eq!(client.get("/plaintext").status, 200);
            client.tls_state().handshake_kind().unwrap()
        };
        assert_eq!(kind(), HandshakeKind::Full);
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");
    }
}

#[test]
fn a_handshake_under_way_does_not_hold_up_a_graceful_stop() {
    for kind in KINDS {
        let site = Site::new();
        let mut server = site.serve(&["-k", kind, "--handshake-timeout", "600", "--graceful-timeout", "600"]);
        let mut silent = server.connect();
        assert_eq!(site.connect(&server).get("/plaintext").status, 200);
        server.signal(libc::SIGTERM);
        silent.expect_gone();
        assert!(server.wait_exit().success(), "{kind}");
    }
}

/// Says nothing more, without the words of TLS for that.
pub(super) fn cut(socket: &TcpStream) {
    socket.shutdown(Shutdown::Write).unwrap();
}
