//! TCP sockets: std's interface, parked instead of blocked.

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenlet::net::{TcpListener, TcpStream};
use greenlet::{Builder, join_all, sleep, spawn, yield_now};
use greenserve_tests::{Scratch, in_time};

use crate::blocking::tcp_pair;
use crate::{FOREVER, SHORT};

#[test]
fn a_server_and_its_clients_run_on_one_thread() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = spawn(move || {
            for stream in listener.incoming().take(100) {
                let mut stream = stream.unwrap();
                spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        let clients: Vec<_> = (0..100)
            .map(|n| {
                spawn(move || {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    for turn in 0..10 {
                        let message = format!("client {n} turn {turn}");
                        stream.write_all(message.as_bytes()).unwrap();
                        let mut echo = vec![0; message.len()];
                        stream.read_exact(&mut echo).unwrap();
                        assert_eq!(echo, message.as_bytes());
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.join().unwrap();
    });
}

#[test]
fn megabytes_pass_both_ways_at_once_through_one_socket() {
    in_time(|| {
        const SIZE: usize = 5_000_000;
        let (a, b) = tcp_pair();
        let pump = |stream: TcpStream| {
            let stream = Rc::new(stream);
            let writer = spawn({
                let stream = Rc::clone(&stream);
                move || {
                    (&*stream).write_all(&vec![7; SIZE]).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            });
            let reader = spawn(move || {
                let mut all = Vec::new();
                (&*stream).read_to_end(&mut all).unwrap();
                all.len()
            });
            (writer, reader)
        };
        let ((writer_a, reader_a), (writer_b, reader_b)) = (pump(a), pump(b));
        assert_eq!((reader_a.join().unwrap(), reader_b.join().unwrap()), (SIZE, SIZE));
        writer_a.join().unwrap();
        writer_b.join().unwrap();
    });
}

#[test]
fn a_second_reader_is_an_error_that_names_both_and_the_first_reads_on() {
    in_time(|| {
        let (ours, mut theirs) = tcp_pair();
        let ours = Rc::new(ours);
        let reader = |name: &str| {
            let ours = Rc::clone(&ours);
            Builder::new().name(name).spawn(move || (&*ours).read(&mut [0; 10])).unwrap()
        };
        let first = reader("early-bird");
        sleep(SHORT);
        let second = reader("latecomer");
        let error = second.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        let message = error.to_string();
        assert!(message.contains("early-bird") && message.contains("latecomer"), "{message}");
        theirs.write_all(b"hi").unwrap();
        assert_eq!(first.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn a_second_writer_and_a_second_acceptor_are_errors_too() {
    in_time(|| {
        let (ours, _theirs) = tcp_pair();
        let ours = Rc::new(ours);
        let writer = || {
            let ours = Rc::clone(&ours);
            spawn(move || (&*ours).write_all(&vec![0; 50 << 20]))
        };
        let first = writer();
        sleep(SHORT);
        assert_eq!(writer().join().unwrap().unwrap_err().kind(), ErrorKind::ResourceBusy);
        first.kill().unwrap();

        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let acceptor = || {
            let listener = Rc::clone(&listener);
            spawn(move || listener.accept().map(drop))
        };
        let first = acceptor();
        sleep(SHORT);
        assert_eq!(acceptor().join().unwrap().unwrap_err().kind(), ErrorKind::ResourceBusy);
        first.kill().unwrap();
        let next = acceptor();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(next.join().unwrap().is_ok(), "the place of one who was killed is free");
    });
}

#[test]
fn a_read_with_a_timeout_gives_up_and_the_data_is_still_there_for_the_next() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        ours.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(ours.read_timeout().unwrap(), Some(SHORT));
        let start = Instant::now();
        let error = ours.read(&mut [0; 10]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
        assert!(start.elapsed() >= SHORT, "not early");
        theirs.write_all(b"late").unwrap();
        ours.set_read_timeout(None).unwrap();
        let mut buffer = [0; 4];
        ours.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"late");
        assert_eq!(
            ours.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "as in std"
        );
    });
}

#[test]
fn a_write_with_a_timeout_gives_up() {
    in_time(|| {
        let (mut ours, _theirs) = tcp_pair();
        ours.set_write_timeout(Some(SHORT)).unwrap();
        let error = ours.write_all(&vec![0; 100 << 20]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    });
}

#[test]
fn connect_with_a_timeout_gives_up_on_a_peer_that_does_not_answer() {
    in_time(|| {
        // a listener whose queue is full drops further handshakes
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match TcpStream::connect_timeout(&addr, SHORT * 10) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
            assert!(queued.len() < 100, "the queue of a listener with backlog 0 has an end");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            TcpStream::connect_timeout(&addr, Duration::ZERO).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "as in std"
        );
    });
}

#[test]
fn a_refused_connection_is_refused() {
    in_time(|| {
        let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            TcpStream::connect_timeout(&addr, FOREVER).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
}

#[test]
fn closing_a_listener_wakes_the_one_who_accepts() {
    in_time(|| {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let acceptor = spawn({
            let listener = Rc::clone(&listener);
            move || listener.accept().map(drop)
        });
        sleep(SHORT);
        listener.close();
        assert!(acceptor.join().unwrap().is_err());
        assert!(listener.accept().is_err(), "and nobody can accept any more");
    });
}

#[test]
fn shutting_down_wakes_the_one_who_reads_on_either_side() {
    in_time(|| {
        let (ours, theirs) = tcp_pair();
        let ours = Rc::new(ours);
        let reader = spawn({
            let ours = Rc::clone(&ours);
            move || (&*ours).read(&mut [0; 10]).unwrap()
        });
        sleep(SHORT);
        ours.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
        let reader = spawn({
            let ours = Rc::clone(&ours);
            move || (&*ours).read(&mut [0; 10]).unwrap()
        });
        drop(theirs);
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn a_half_closed_stream_still_carries_the_other_direction() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        ours.write_all(b"question").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let answering = spawn(move || {
            let mut question = String::new();
            theirs.read_to_string(&mut question).unwrap();
            sleep(SHORT);
            theirs.write_all(question.to_uppercase().as_bytes()).unwrap();
        });
        let mut answer = String::new();
        ours.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "QUESTION");
        answering.join().unwrap();
    });
}

#[test]
fn the_end_that_comes_with_the_last_bytes_is_not_missed() {
    in_time(|| {
        for _ in 0..200 {
            let (mut ours, mut theirs) = tcp_pair();
            let reader = spawn(move || {
                let mut large = [0; 1000];
                let mut total = 0;
                // a short read each time, so that the runtime may think the socket empty
                while let n @ 1.. = ours.read(&mut large).unwrap() {
                    total += n;
                }
                total
            });
            yield_now();
            theirs.write_all(b"last words").unwrap();
            drop(theirs);
            assert_eq!(reader.join().unwrap(), 10);
        }
    });
}

#[test]
fn a_reset_is_an_error_and_so_is_writing_to_one_who_has_gone() {
    in_time(|| {
        let (mut ours, theirs) = tcp_pair();
        theirs.set_linger(Some(Duration::ZERO)).unwrap();
        let reader = spawn(move || (ours.read(&mut [0; 10]).map_err(|error| error.kind()), ours));
        sleep(SHORT);
        drop(theirs);
        let (result, mut ours) = reader.join().unwrap();
        assert_eq!(result, Err(ErrorKind::ConnectionReset));
        let error = (0..100).find_map(|_| ours.write(b"x").err()).expect("an error, and no signal");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn peek_shows_without_taking() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        let writer = spawn(move || {
            sleep(SHORT);
            theirs.write_all(b"abc").unwrap();
            theirs
        });
        let mut buffer = [0; 3];
        assert_eq!(ours.peek(&mut buffer[..1]).unwrap(), 1);
        assert_eq!(ours.peek(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer, b"abc");
        assert_eq!(ours.read(&mut buffer).unwrap(), 3);
        drop(writer.join().unwrap());
        assert_eq!(ours.peek(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn vectored_calls_use_all_buffers() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        let sent =
            ours.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")]).unwrap();
        assert_eq!(sent, 5);
        let (mut first, mut second) = ([0; 3], [0; 4]);
        let got =
            theirs.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
        assert_eq!((got, &first, &second[..2]), (5, b"abc", &b"de"[..]));
    });
}

#[test]
fn a_clone_is_the_same_connection_and_may_be_used_while_the_other_waits() {
    in_time(|| {
        let (ours, mut theirs) = tcp_pair();
        let mut clone = ours.try_clone().unwrap();
        let reader = spawn(move || {
            let mut buffer = [0; 5];
            (&ours).read_exact(&mut buffer).unwrap();
            (buffer, ours)
        });
        yield_now();
        clone.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        theirs.read_exact(&mut buffer).unwrap();
        theirs.write_all(b"pong!").unwrap();
        let (answer, ours) = reader.join().unwrap();
        assert_eq!(&answer, b"pong!");
        drop(ours);
        clone.write_all(b"more").unwrap();
        theirs.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"more", "it lives as long as one of the two");
        drop(clone);
        assert_eq!(theirs.read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn sockets_come_from_std_and_go_back_to_it() {
    in_time(|| {
        let std_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = std_listener.local_addr().unwrap();
        let listener = TcpListener::from(std_listener);
        let client = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), peer);
        assert_eq!(stream.local_addr().unwrap(), addr);
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).unwrap();
        // std's stream blocks again, as it should
        let mut plain = stream.into_std().unwrap();
        plain.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(plain.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        plain.write_all(b"from std").unwrap();
        drop(plain);
        assert_eq!(client.join().unwrap(), "from std");
    });
}

#[test]
fn a_nonblocking_socket_does_not_park() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(ours.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        theirs.write_all(b"x").unwrap();
        ours.set_nonblocking(false).unwrap();
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 1);
    });
}

#[test]
fn others_run_while_one_waits_for_a_socket() {
    in_time(|| {
        let (mut ours, mut theirs) = tcp_pair();
        let turns = Rc::new(Cell::new(0));
        let reader = spawn(move || ours.read(&mut [0; 1]).unwrap());
        let busy = spawn({
            let turns = Rc::clone(&turns);
            move || {
                for _ in 0..100 {
                    turns.set(turns.get() + 1);
                    yield_now();
                }
                theirs.write_all(b"x").unwrap();
                theirs
            }
        });
        assert_eq!(reader.join().unwrap(), 1);
        assert_eq!(turns.get(), 100);
        busy.join().unwrap();
    });
}

#[test]
fn a_file_is_sent_in_pieces_from_its_offset() {
    in_time(|| {
        let scratch = Scratch::new();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let file = std::fs::File::open(scratch.write("large", &content)).unwrap();
        let (ours, mut theirs) = tcp_pair();
        let reader = spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        let mut offset = 1000;
        loop {
            match ours.send_file(&file, offset, content.len()).unwrap() {
                0 => break,
                sent => offset += sent as u64,
            }
        }
        assert_eq!(offset, content.len() as u64);
        drop(ours);
        assert!(reader.join().unwrap() == content[1000..]);
    });
}

#[test]
fn many_descriptors_are_closed_and_their_numbers_used_again_without_mixing_them_up() {
    in_time(|| {
        for round in 0..30 {
            let jobs: Vec<_> = (0..20u8)
                .map(|n| {
                    spawn(move || {
                        let (mut ours, mut theirs) = tcp_pair();
                        let writer = spawn(move || {
                            sleep(Duration::from_micros(u64::from(n) * 37));
                            theirs.write_all(&[n; 3]).unwrap();
                        });
                        let mut all = Vec::new();
                        ours.read_to_end(&mut all).unwrap();
                        writer.join().unwrap();
                        all == [n; 3]
                    })
                })
                .collect();
            join_all(&jobs, None).unwrap();
            assert!(jobs.iter().all(|job| job.join().unwrap()), "round {round}");
        }
    });
}
