//! TLS over sockets that park.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use greenlet::net::{TcpListener, TcpStream, UnixStream};
use greenlet::tls::rustls::{ClientConfig, Error as TlsError, ServerConfig};
use greenlet::tls::{TlsStream, client_config, client_config_trusting, server_config};
use greenlet::{Greenlet, sleep, spawn, stats, timeout};
use greenserve_tests::{Scratch, in_time};

use crate::{FOREVER, SHORT};

/// A server's certificate for `localhost` and its key, on the disk and as configurations.
struct Identity {
    scratch: Scratch,
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    fn new() -> Identity {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let scratch = Scratch::new();
        let (certificate, key) = (scratch.join("cert.pem"), scratch.join("key.pem"));
        std::fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
        Identity { scratch, certificate, key }
    }

    fn server(&self) -> Arc<ServerConfig> {
        Arc::new(server_config(&self.certificate, &self.key).unwrap())
    }

    fn client(&self) -> Arc<ClientConfig> {
        Arc::new(client_config_trusting(&self.certificate).unwrap())
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

type Tls = TlsStream<TcpStream>;

/// Two ends of one TCP connection.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A client and a server that have shaken hands.
fn pair() -> (Tls, Tls) {
    let identity = Identity::new();
    let (client, server) = sockets();
    let config = identity.server();
    let accepting = spawn(move || TlsStream::accept(server, config, FOREVER).unwrap());
    let client = TlsStream::connect(client, identity.client(), "localhost", FOREVER).unwrap();
    (client, accepting.join().unwrap())
}

/// Sends back what comes, to the end.
fn echo(mut stream: Tls) -> Greenlet<io::Result<()>> {
    spawn(move || {
        let mut buffer = vec![0; 10_000];
        loop {
            match stream.read(&mut buffer)? {
                0 => return stream.shutdown(),
                count => stream.write_all(&buffer[..count])?,
            }
        }
    })
}

#[test]
fn what_is_written_comes_back_and_both_sides_end_cleanly() {
    in_time(|| {
        let (mut client, server) = pair();
        let echo = echo(server);
        for text in ["hello", "", "a second one"] {
            client.write_all(text.as_bytes()).unwrap();
            let mut back = vec![0; text.len()];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, text.as_bytes());
        }
        client.shutdown().unwrap();
        client.shutdown().unwrap();
        assert_eq!(client.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        // half closed: the other direction is still open
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        echo.join().unwrap().unwrap();
    });
}

#[test]
fn what_was_agreed_on_can_be_asked() {
    in_time(|| {
        let identity = Identity::new();
        let (client, server) = sockets();
        let mut config = server_config(&identity.certificate, &identity.key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let accepting = spawn(move || TlsStream::accept(server, config, FOREVER).unwrap());
        let mut config = client_config_trusting(&identity.certificate).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = TlsStream::connect(client, config, "localhost", FOREVER).unwrap();
        let server = accepting.join().unwrap();
        assert_eq!(client.alpn_protocol().unwrap(), b"http/1.1");
        assert_eq!(server.alpn_protocol(), client.alpn_protocol());
        assert_eq!((server.server_name().as_deref(), client.server_name()), (Some("localhost"), None));
        assert_eq!(client.peer_certificates().unwrap().len(), 1);
        assert!(server.peer_certificates().is_none());
        assert!(
            client.protocol_version().is_some() && client.protocol_version() == server.protocol_version()
        );
        assert!(client.cipher_suite().is_some());
    });
}

#[test]
fn a_certificate_that_is_not_trusted_ends_the_handshake_on_both_sides() {
    in_time(|| {
        let (identity, other) = (Identity::new(), Identity::new());
        for (config, name, why) in [
            (other.client(), "localhost", "invalid peer certificate"),
            (identity.client(), "elsewhere.test", "elsewhere.test"),
        ] {
            let (client, server) = sockets();
            let config_server = identity.server();
            let accepting = spawn(move || TlsStream::accept(server, config_server, FOREVER).map(drop));
            let error = TlsStream::connect(client, config, name, FOREVER).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let text = error.to_string();
            assert!(text.contains(&format!("handshake with '{name}'")), "{text}");
            assert!(text.contains("certificate") && text.contains(why), "{text}");
            let cause = std::error::Error::source(error.get_ref().unwrap()).unwrap();
            let cause = cause.downcast_ref::<io::Error>().unwrap().get_ref().unwrap();
            assert!(matches!(cause.downcast_ref(), Some(TlsError::InvalidCertificate(_))), "{cause:?}");
            // the server is told
            let error = accepting.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("a client") && error.to_string().contains("alert"), "{error}");
        }
    });
}

#[test]
fn the_systems_roots_do_not_include_ours() {
    in_time(|| {
        let config = match client_config() {
            Ok(config) => config,
            Err(error) => {
                // a machine without any
                assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
                return;
            }
        };
        let (client, server) = sockets();
        let config_server = Identity::new().server();
        let accepting = spawn(move || TlsStream::accept(server, config_server, FOREVER).is_err());
        let error = TlsStream::connect(client, config, "localhost", FOREVER).map(drop).unwrap_err();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        assert!(accepting.join().unwrap());
    });
}

#[test]
fn a_peer_that_says_nothing_runs_into_the_handshakes_timeout_or_the_sockets() {
    in_time(|| {
        let identity = Identity::new();
        let (silent, server) = sockets();
        let error = TlsStream::accept(server, identity.server(), SHORT).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("a client") && error.to_string().contains("10ms"), "{error}");
        drop(silent);

        let (client, _silent) = sockets();
        client.set_read_timeout(Some(SHORT)).unwrap();
        let error = TlsStream::connect(client, identity.client(), "localhost", None).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn a_peer_that_hangs_up_or_speaks_something_else_fails_the_handshake() {
    in_time(|| {
        let identity = Identity::new();
        let (client, server) = sockets();
        drop(client);
        let error = TlsStream::accept(server, identity.server(), FOREVER).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);

        let (mut client, server) = sockets();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let error = TlsStream::accept(server, identity.server(), FOREVER).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);

        let (client, _server) = sockets();
        let error = TlsStream::connect(client, identity.client(), "no name", FOREVER).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("'no name'"), "{error}");
    });
}

#[test]
fn a_connection_that_is_cut_is_not_the_end() {
    in_time(|| {
        let (mut client, mut server) = pair();
        server.write_all(b"half of").unwrap();
        server.get_ref().shutdown(Shutdown::Write).unwrap();
        let mut text = Vec::new();
        let error = client.read_to_end(&mut text).unwrap_err();
        assert_eq!((error.kind(), &text[..]), (ErrorKind::UnexpectedEof, &b"half of"[..]));
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::UnexpectedEof, "and stays one");
    });
}

#[test]
fn many_megabytes_go_both_ways_at_once_with_a_reader_and_a_writer_on_each_side() {
    const SIZE: usize = 8 << 20;

    fn block(seed: usize, at: usize) -> Vec<u8> {
        (at..at + 50_000).map(|index| (index * 31 + index / 977 + seed) as u8).collect()
    }

    in_time(|| {
        let (client, server) = pair();
        let mut jobs = Vec::new();
        for (stream, seed) in [(Rc::new(client), 1), (Rc::new(server), 2)] {
            let writer = stream.clone();
            jobs.push(spawn(move || {
                let mut at = 0;
                while at < SIZE {
                    (&*writer).write_all(&block(seed, at)).unwrap();
                    at += 50_000;
                }
                writer.shutdown().unwrap();
                at
            }));
            jobs.push(spawn(move || {
                let (mut at, mut buffer) = (0, vec![0; 50_000]);
                while at < SIZE {
                    (&*stream).read_exact(&mut buffer).unwrap();
                    assert!(buffer == block(3 - seed, at), "what came at {at} is not what was sent");
                    at += 50_000;
                }
                assert_eq!((&*stream).read(&mut buffer).unwrap(), 0);
                at
            }));
        }
        for job in jobs {
            assert!(job.join().unwrap() >= SIZE);
        }
    });
}

#[test]
fn records_of_several_writers_do_not_mix() {
    in_time(|| {
        let (client, mut server) = pair();
        let client = Rc::new(client);
        let writers: Vec<_> = (0..4u8)
            .map(|n| {
                let client = client.clone();
                // the socket's buffers are soon full, so that they wait in the midst of it
                spawn(move || (0..200).for_each(|_| (&*client).write_all(&[n; 10_000]).unwrap()))
            })
            .collect();
        let mut counts = [0usize; 4];
        let mut buffer = [0; 10_000];
        for _ in 0..800 {
            server.read_exact(&mut buffer).unwrap();
            assert!(buffer.iter().all(|byte| *byte == buffer[0]));
            counts[usize::from(buffer[0])] += 1;
        }
        assert_eq!(counts, [200; 4]);
        writers.iter().for_each(|writer| writer.join().unwrap());
    });
}

#[test]
fn a_read_times_out_and_the_stream_goes_on() {
    in_time(|| {
        let (mut client, server) = pair();
        let server = Rc::new(server);
        client.get_ref().set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        client.get_ref().set_read_timeout(None).unwrap();
        assert!(timeout(SHORT, || client.read(&mut [0; 8])).is_err());
        let killed = spawn({
            let server = server.clone();
            move || (&*server).read(&mut [0; 8]).map(drop)
        });
        sleep(SHORT);
        killed.kill().unwrap();
        (&*server).write_all(b"late").unwrap();
        client.write_all(b"too").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(client.read(&mut buffer).unwrap(), 4);
        assert_eq!((&*server).read(&mut buffer).unwrap(), 3);
    });
}

#[test]
fn a_writer_that_gives_up_leaves_a_stream_that_can_be_written_on() {
    in_time(|| {
        let (client, mut server) = pair();
        let client = Rc::new(client);
        client.get_ref().set_write_timeout(Some(SHORT)).unwrap();
        let mut written = 0;
        let error = loop {
            match (&*client).write(&[7; 20_000]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        client.get_ref().set_write_timeout(None).unwrap();
        let killed = spawn({
            let client = client.clone();
            move || (&*client).flush()
        });
        sleep(SHORT);
        assert!(!killed.is_dead(), "there is no room");
        killed.kill().unwrap();
        // Everything that was taken arrives, once.
        // (The client is kept: it has not read its session tickets, and closing it would reset the connection.)
        let ending = spawn({
            let client = client.clone();
            move || client.shutdown()
        });
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        assert!(all.len() == written && all.iter().all(|byte| *byte == 7), "{} of {written}", all.len());
        ending.join().unwrap().unwrap();
    });
}

#[test]
fn a_second_reader_is_an_error_and_closing_the_socket_wakes_the_first() {
    in_time(|| {
        let (client, _server) = pair();
        let client = Rc::new(client);
        let read = || {
            let client = client.clone();
            spawn(move || (&*client).read(&mut [0; 8]))
        };
        let first = read();
        sleep(SHORT);
        assert_eq!(read().join().unwrap().unwrap_err().kind(), ErrorKind::ResourceBusy);
        client.get_ref().close();
        assert_eq!(first.join().unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

#[test]
fn tls_runs_over_unix_sockets_and_over_tls() {
    in_time(|| {
        let identity = Identity::new();
        let (client, server) = UnixStream::pair().unwrap();
        let (inner, outer) = (identity.server(), identity.server());
        let serving = spawn(move || {
            let stream = TlsStream::accept(server, outer, FOREVER)?;
            let mut stream = TlsStream::accept(stream, inner, FOREVER)?;
            stream.write_all(b"twice")?;
            stream.shutdown()
        });
        let client = TlsStream::connect(client, identity.client(), "localhost", FOREVER).unwrap();
        let mut client = TlsStream::connect(client, identity.client(), "localhost", FOREVER).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "twice");
        serving.join().unwrap().unwrap();
    });
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    in_time(|| {
        let (identity, other) = (Identity::new(), Identity::new());
        let (empty, damaged) = (identity.scratch.join("empty"), identity.scratch.join("damaged"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let missing = identity.scratch.join("missing");
        for (result, path, kind) in [
            (server_config(&missing, &identity.key).map(drop), &missing, ErrorKind::NotFound),
            (server_config(&identity.certificate, &missing).map(drop), &missing, ErrorKind::NotFound),
            (server_config(&empty, &identity.key).map(drop), &empty, ErrorKind::InvalidData),
            (server_config(&identity.certificate, &empty).map(drop), &empty, ErrorKind::InvalidData),
            (server_config(&identity.certificate, &other.key).map(drop), &other.key, ErrorKind::InvalidData),
            (client_config_trusting(&missing).map(drop), &missing, ErrorKind::NotFound),
            (client_config_trusting(&empty).map(drop), &empty, ErrorKind::InvalidData),
            (client_config_trusting(&damaged).map(drop), &damaged, ErrorKind::InvalidData),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    });
}

#[test]
fn a_hundred_handshakes_run_side_by_side() {
    in_time(|| {
        let identity = Identity::new();
        let (server, client) = (identity.server(), identity.client());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = spawn(move || {
            let jobs: Vec<_> = (0..100)
                .map(|_| {
                    let (socket, _) = listener.accept().unwrap();
                    let server = server.clone();
                    spawn(move || echo(TlsStream::accept(socket, server, FOREVER).unwrap()).join().unwrap())
                })
                .collect();
            jobs.iter().for_each(|job| job.join().unwrap().unwrap());
        });
        let clients: Vec<_> = (0..100)
            .map(|n: u8| {
                let client = client.clone();
                spawn(move || {
                    let socket = TcpStream::connect(address).unwrap();
                    let mut stream = TlsStream::connect(socket, client, "localhost", FOREVER).unwrap();
                    stream.write_all(&[n; 100]).unwrap();
                    stream.shutdown().unwrap();
                    let mut back = Vec::new();
                    stream.read_to_end(&mut back).unwrap();
                    assert_eq!(back, [n; 100]);
                })
            })
            .collect();
        clients.iter().for_each(|client| client.join().unwrap());
        serving.join().unwrap();
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn a_write_waits_at_most_as_long_as_the_socket_may() {
    in_time(|| {
        let (client, _server) = pair();
        client.get_ref().set_write_timeout(Some(SHORT)).unwrap();
        let result = timeout(Duration::from_secs(20), || (&client).write_all(&vec![0; 64 << 20]));
        assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}
