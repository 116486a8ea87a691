//! WebSockets over real sockets: exact frames, and `tungstenite` as the client.

mod support;

use std::io::{self, Read, Write};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use greenserve::websocket::{self, Acceptor, Message, Sender, close};
use greenserve::{IntoResponse, Request, Response};
use support::{Client, Mode, PATIENCE, Running, Stream, all_ways};
use tungstenite::Message as Theirs;
use tungstenite::protocol::frame::coding::CloseCode;

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn echo(req: Request) -> Response {
    websocket::accept(req, |ws| {
        while let Some(message) = ws.recv()? {
            ws.send(message)?;
        }
        Ok(())
    })
}

/// A client's frame: masked, as it must be.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..=125 => frame.push(0x80 | length as u8),
        length @ ..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame from the server: its first byte and its payload.
fn next(client: &mut Client) -> (u8, Vec<u8>) {
    let stream = &mut client.stream;
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).unwrap();
            u64::from_be_bytes(length)
        }
        length => u64::from(length),
    };
    assert!(length < 1 << 30, "the server masks nothing");
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// The code of the close frame that comes next.
fn next_close(client: &mut Client) -> u16 {
    let (first, payload) = next(client);
    assert_eq!(first, 0x88, "{payload:?}");
    u16::from_be_bytes([payload[0], payload[1]])
}

/// A client that has shaken hands.
fn open(server: &Running) -> Client {
    let mut client = server.client();
    client.send(ASK);
    shake(&mut client);
    client
}

/// Reads the head of the 101, and nothing behind it.
fn shake(client: &mut Client) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
}

fn connect(server: &Running) -> tungstenite::WebSocket<Stream> {
    let client = server.client();
    let url = format!("ws://{}/", server.addr);
    tungstenite::client(url, client.stream).expect("a handshake").0
}

fn ended(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)
}

#[test]
fn the_handshake_is_that_of_the_rfc() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req| {
                Acceptor::new().protocols(["b", "a"]).accept(req, |ws| {
                    ws.send(ws.protocol().unwrap_or("none").to_owned())?;
                    Ok(())
                })
            },
        );
        let mut client = server.client();
        client.send(ASK.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"));
        let head = client.until("\r\n\r\n");
        for line in [
            "HTTP/1.1 101 Switching Protocols\r\n",
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "sec-websocket-protocol: b\r\n",
        ] {
            assert!(head.contains(line), "{head}");
        }
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    });
}

#[test]
fn a_wrong_handshake_leaves_the_connection_to_http() {
    let server = Running::start(Mode::Green, |s| s, echo);
    let mut client = server.client();
    for (from, to, status) in [
        ("13\r\n", "8\r\n", "426"),
        ("Upgrade: websocket", "Upgrade: other", "426"),
        ("Connection: Upgrade", "Connection: keep-alive", "426"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", "400"),
        ("\r\n\r\n", "\r\nOrigin: http://elsewhere\r\n\r\n", "403"),
        ("GET /", "PUT /", "405"),
    ] {
        client.send(ASK.replacen(from, to, 1));
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {head}");
        if status == "426" {
            assert!(head.contains("sec-websocket-version: 13\r\n"), "{head}");
            assert!(head.contains("connection: upgrade\r\n"), "{head}");
        }
        client.until("\n");
    }
    client.send(ASK.replace("Host: a", "Host: a\r\nOrigin: http://a"));
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
}

#[test]
fn messages_of_all_sizes_come_back_as_they_were() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let mut client = connect(&server);
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let text: String = "äb\u{1f600}"
                .chars()
                .cycle()
                .scan(0, |total, c| {
                    *total += c.len_utf8();
                    (*total <= size).then_some(c)
                })
                .collect();
            let binary: Vec<u8> = (0..size).map(|n| n as u8).collect();
            for message in [Theirs::text(text), Theirs::binary(binary)] {
                client.send(message.clone()).unwrap();
                assert_eq!(client.read().unwrap(), message);
            }
        }
        client.close(None).unwrap();
        assert!(matches!(client.read(), Ok(Theirs::Close(None))));
        assert!(ended(&client.read().unwrap_err()));
    });
}

#[test]
fn fragments_make_one_message_with_control_frames_between_them() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s, echo);
        let mut client = open(&server);
        let mut bytes = frame(0x01, b"one, \xc3");
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x00, b"\xa4, "));
        bytes.extend(frame(0x80, b"three"));
        // A byte at a time, too.
        bytes.iter().for_each(|byte| client.send([*byte]));
        assert_eq!(next(&mut client), (0x8a, b"ping".to_vec()));
        assert_eq!(next(&mut client), (0x81, "one, ä, three".as_bytes().to_vec()));
        client.send(&bytes);
        assert_eq!(next(&mut client), (0x8a, b"ping".to_vec()));
        assert_eq!(next(&mut client).0, 0x81);
    });
}

#[test]
fn frames_right_behind_the_handshake_are_not_lost() {
    let server = Running::start(Mode::Green, |s| s, echo);
    let mut client = server.client();
    client.send([ASK.as_bytes(), &frame(0x81, b"early")].concat());
    shake(&mut client);
    assert_eq!(next(&mut client), (0x81, b"early".to_vec()));
}

#[test]
fn whoever_breaks_the_protocol_is_told_how() {
    all_ways(|mode| {
        let server = Running::start(
            mode,
            |s| s,
            |req| {
                Acceptor::new().max_message_size(200).accept(req, |ws| {
                    while let Some(message) = ws.recv()? {
                        ws.send(message)?;
                    }
                    Ok(())
                })
            },
        );
        let long = [b'x'; 120];
        for (what, bytes, code) in [
            ("unmasked", b"\x81\x02hi".to_vec(), close::PROTOCOL),
            ("reserved bit", frame(0xc1, b"hi"), close::PROTOCOL),
            ("reserved opcode", frame(0x83, b"hi"), close::PROTOCOL),
            ("reserved control opcode", frame(0x8b, b""), close::PROTOCOL),
            ("continuation of nothing", frame(0x80, b"hi"), close::PROTOCOL),
            ("a message within another", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), close::PROTOCOL),
            ("a ping in pieces", frame(0x09, b""), close::PROTOCOL),
            ("a long ping", frame(0x89, &[0; 126]), close::PROTOCOL),
            ("a close frame of one byte", frame(0x88, b"x"), close::PROTOCOL),
            ("a forbidden code", frame(0x88, &1005_u16.to_be_bytes()), close::PROTOCOL),
            ("bad UTF-8", frame(0x81, b"\xff"), close::INVALID),
            ("bad UTF-8 in pieces", [frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), close::INVALID),
            ("a big message", frame(0x81, &[b'x'; 201]), close::TOO_BIG),
            ("a big message in pieces", [frame(0x01, &long), frame(0x80, &long)].concat(), close::TOO_BIG),
            ("a length beyond all", b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask".to_vec(), close::TOO_BIG),
        ] {
            println!("{what}");
            let mut client = open(&server);
            client.send(frame(0x81, b"good"));
            assert_eq!(next(&mut client), (0x81, b"good".to_vec()));
            client.send(bytes);
            assert_eq!(next_close(&mut client), code, "{what}");
            assert_eq!(client.rest(), "", "{what}");
        }
    });
}

#[test]
fn each_side_closes_with_its_code() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s,
            move |req: Request| {
                let told = told.lock().unwrap().clone();
                let path = req.path().to_owned();
                websocket::accept(req, move |ws| match &*path {
                    "/fails" => Err(io::Error::other("as it was asked to")),
                    "/returns" => Ok(()),
                    "/panics" => panic!("as it was asked to"),
                    "/closes" => {
                        ws.close(4000, "enough");
                        assert!(ws.send("more").is_err() && ws.recv()?.is_none() && !ws.is_open());
                        told.send(ws.peer_close().cloned()).unwrap();
                        Ok(())
                    }
                    _ => {
                        assert_eq!(ws.recv()?, None);
                        assert_eq!(ws.send("more").unwrap_err().kind(), io::ErrorKind::NotConnected);
                        told.send(ws.peer_close().cloned()).unwrap();
                        Ok(())
                    }
                })
            },
        );
        let at = |path: &str| {
            let client = server.client();
            tungstenite::client(format!("ws://{}{path}", server.addr), client.stream).expect("a handshake").0
        };
        for (path, code) in [("/fails", 1011), ("/returns", 1000), ("/panics", 1011), ("/closes", 4000)] {
            let mut client = at(path);
            match client.read().unwrap() {
                Theirs::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code, "{path}"),
                other => panic!("{path}: {other:?}"),
            }
            while client.read().is_ok() {}
        }
        // Their answer to our code.
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap().map(|frame| frame.code), Some(4000));
        let mut client = at("/");
        let reason = tungstenite::protocol::CloseFrame { code: CloseCode::from(3001), reason: "bye".into() };
        client.close(Some(reason.clone())).unwrap();
        assert_eq!(client.read().unwrap(), Theirs::Close(Some(reason)));
        assert!(ended(&client.read().unwrap_err()));
        let heard = hears.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((heard.code, &*heard.reason), (3001, "bye"));
    });
}

#[test]
fn a_client_that_leaves_without_a_word_is_an_error() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s,
            move |req| {
                let told = told.lock().unwrap().clone();
                websocket::accept(req, move |ws| {
                    let error = ws.recv().expect_err("it has left");
                    told.send((error.kind(), ws.is_open())).unwrap();
                    Err(error)
                })
            },
        );
        drop(open(&server));
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), (io::ErrorKind::UnexpectedEof, false));
    });
}

#[test]
fn a_silent_client_is_pinged_and_given_up_if_it_stays_silent() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s,
            move |req| {
                let told = told.lock().unwrap().clone();
                Acceptor::new().keep_alive(Duration::from_millis(100)).accept(req, move |ws| {
                    let timed_out = ws.recv_timeout(Duration::from_millis(10)).unwrap_err();
                    assert_eq!((timed_out.kind(), ws.is_open()), (io::ErrorKind::TimedOut, true));
                    let result = ws.recv();
                    told.send((result.as_ref().map_err(io::Error::kind).cloned(), ws.is_open())).unwrap();
                    Ok(())
                })
            },
        );
        let mut client = open(&server);
        assert_eq!(next(&mut client), (0x89, vec![]));
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), (Err(io::ErrorKind::TimedOut), false));
        let mut client = open(&server);
        for _ in 0..3 {
            assert_eq!(next(&mut client), (0x89, vec![]));
            client.send(frame(0x8a, b""));
        }
        client.send(frame(0x81, b"here"));
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), (Ok(Some(Message::from("here"))), true));
    });
}

#[test]
fn a_graceful_stop_says_going_away_and_waits_for_the_answer() {
    all_ways(|mode| {
        let server = Running::start(mode, |s| s.graceful_timeout(PATIENCE), echo);
        let mut clients: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        for client in &mut clients {
            client.send(Theirs::text("a")).unwrap();
            assert_eq!(client.read().unwrap(), Theirs::text("a"));
        }
        server.handle.stop();
        for client in &mut clients {
            match client.read().unwrap() {
                Theirs::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
                other => panic!("{other:?}"),
            }
            assert!(ended(&client.read().unwrap_err()));
        }
        server.stop();
    });
}

#[test]
fn a_handler_that_is_killed_at_the_deadline_says_going_away_too() {
    let server = Running::start(
        Mode::Green,
        |s| s.graceful_timeout(Duration::from_millis(100)),
        |req| {
            websocket::accept(req, |ws| {
                ws.send("ready")?;
                greenlet::sleep(Duration::from_secs(3600));
                Ok(())
            })
        },
    );
    let mut client = connect(&server);
    assert_eq!(client.read().unwrap(), Theirs::text("ready"));
    server.handle.stop();
    match client.read().unwrap() {
        Theirs::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    server.stop();
}

#[test]
fn many_green_threads_send_at_once_and_frames_stay_whole() {
    let server = Running::start(
        Mode::Green,
        |s| s,
        |req| {
            Acceptor::new().queue(10_000).accept(req, |ws| {
                let jobs: Vec<_> = (0..10)
                    .map(|job| {
                        let sender = ws.sender();
                        greenlet::spawn(move || -> io::Result<()> {
                            (0..100)
                                .try_for_each(|n| sender.send(format!("{job} {n} {}", "x".repeat(n * 100))))
                        })
                    })
                    .collect();
                for job in jobs {
                    job.join().unwrap()?;
                }
                Ok(())
            })
        },
    );
    let mut client = connect(&server);
    let mut nexts = [0; 10];
    while let Ok(Theirs::Text(text)) = client.read() {
        let mut words = text.split(' ');
        let [job, n] = [0; 2].map(|_| words.next().unwrap().parse::<usize>().unwrap());
        assert_eq!(nexts[job], n, "each sender's order is kept");
        assert_eq!(words.next().unwrap().len(), n * 100);
        nexts[job] += 1;
    }
    assert_eq!(nexts, [100; 10]);
}

#[test]
fn a_slow_client_fills_its_queue_and_no_more_and_gets_what_was_taken() {
    let server = Running::start(
        Mode::Green,
        |s| s,
        |req| {
            Acceptor::new().queue(100_000).accept(req, |ws| {
                let sender = ws.sender();
                let mut taken = 0;
                let error = loop {
                    match sender.try_send(vec![7; 10_000]) {
                        Ok(()) => taken += 1,
                        Err(error) => break error,
                    }
                    // The kernel's buffers are filled by whoever writes the queue meanwhile.
                    greenlet::yield_now();
                };
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                // It reads from here on.
                sender.send(format!("{taken}"))?;
                Ok(())
            })
        },
    );
    let mut client = connect(&server);
    // Whoever waits for room waits for this.
    std::thread::sleep(Duration::from_millis(300));
    let mut count = 0;
    let said = loop {
        match client.read().unwrap() {
            Theirs::Binary(bytes) => {
                assert_eq!(&bytes[..], [7; 10_000]);
                count += 1;
            }
            Theirs::Text(text) => break text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said.as_str(), count.to_string());
    assert!(count > 10);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_after_the_write_timeout() {
    all_ways(|mode| {
        let (told, hears) = mpsc::channel();
        let told = Mutex::new(told);
        let server = Running::start(
            mode,
            |s| s.write_timeout(Duration::from_millis(200)),
            move |req| {
                let told = told.lock().unwrap().clone();
                websocket::accept(req, move |ws| {
                    let error = loop {
                        if let Err(error) = ws.send(vec![0; 100_000]) {
                            break error;
                        }
                    };
                    told.send(error.kind()).unwrap();
                    Err(error)
                })
            },
        );
        let _client = open(&server);
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), io::ErrorKind::NotConnected);
    });
}

#[test]
fn a_client_that_pings_and_never_reads_is_not_given_endless_memory() {
    let (told, hears) = mpsc::channel();
    let told = Mutex::new(told);
    let server = Running::start(
        Mode::Green,
        |s| s.write_timeout(Duration::from_millis(300)),
        move |req| {
            let told = told.lock().unwrap().clone();
            Acceptor::new().queue(10_000).accept(req, move |ws| {
                let result = ws.recv().map(|message| message.is_some());
                told.send(result.map_err(|error| error.kind())).unwrap();
                Ok(())
            })
        },
    );
    let mut client = open(&server);
    let pings = frame(0x89, &[0; 125]).repeat(1000);
    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // Sooner or later nobody takes them any more, and then the connection is cut.
    let began = std::time::Instant::now();
    while client.stream.write_all(&pings).is_ok() {
        assert!(began.elapsed() < PATIENCE, "its pings are taken for ever");
    }
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), Err(io::ErrorKind::NotConnected));
}

#[test]
fn a_sender_outlives_its_websocket_without_keeping_it() {
    thread_local! {
        static KEPT: std::cell::RefCell<Option<Sender>> = const { std::cell::RefCell::new(None) };
    }
    let server = Running::start(
        Mode::Green,
        |s| s,
        |req: Request| match req.path() {
            "/" => websocket::accept(req, |ws| {
                KEPT.set(Some(ws.sender()));
                ws.recv().map(drop)
            }),
            "/close" => {
                KEPT.with_borrow(|kept| kept.as_ref().unwrap().close(4001, "from elsewhere"));
                "closed".into_response()
            }
            _ => {
                let kept = KEPT.take().unwrap();
                let kinds =
                    [kept.send("a"), kept.try_send("b")].map(|result| result.map_err(|error| error.kind()));
                format!("{kinds:?} {}", kept.is_open()).into_response()
            }
        },
    );
    let mut client = connect(&server);
    assert!(server.answer("GET /close HTTP/1.0\r\n\r\n").ends_with("closed"));
    assert!(matches!(client.read().unwrap(), Theirs::Close(Some(frame)) if u16::from(frame.code) == 4001));
    assert!(ended(&client.read().unwrap_err()));
    let answer = server.answer("GET /late HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("[Err(NotConnected), Err(NotConnected)] false"), "{answer}");
}
