//! Who is always ready starves nobody.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;

use greenlet::net::{TcpStream, UdpSocket};
use greenlet::{join_all, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::SHORT;
use crate::blocking::tcp_pair;

/// A flag that ends the greenlets which are always ready.
fn stop_flag() -> Rc<Cell<bool>> {
    Rc::new(Cell::new(false))
}

#[test]
fn one_that_yields_for_ever_starves_no_timer() {
    in_time(|| {
        let stop = stop_flag();
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let stop = Rc::clone(&stop);
                spawn(move || {
                    while !stop.get() {
                        yield_now();
                    }
                })
            })
            .collect();
        sleep(SHORT);
        stop.set(true);
        join_all(&busy, None).unwrap();
    });
}

#[test]
fn one_that_yields_for_ever_starves_no_socket() {
    in_time(|| {
        let stop = stop_flag();
        let busy = spawn({
            let stop = Rc::clone(&stop);
            move || {
                while !stop.get() {
                    yield_now();
                }
            }
        });
        let (mut ours, mut theirs) = tcp_pair();
        let echo = spawn(move || std::io::copy(&mut theirs.try_clone().unwrap(), &mut theirs));
        for n in 0..100u8 {
            ours.write_all(&[n]).unwrap();
            let mut answer = [0];
            ours.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [n]);
        }
        stop.set(true);
        drop(ours);
        echo.join().unwrap().unwrap();
        busy.join().unwrap();
    });
}

#[test]
fn those_who_yield_take_turns_evenly() {
    in_time(|| {
        let stop = stop_flag();
        let counts: Vec<_> = (0..5).map(|_| Rc::new(Cell::new(0u32))).collect();
        let busy: Vec<_> = counts
            .iter()
            .map(|count| {
                let (stop, count) = (Rc::clone(&stop), Rc::clone(count));
                spawn(move || {
                    while !stop.get() {
                        count.set(count.get() + 1);
                        if count.get() == 1000 {
                            stop.set(true);
                        }
                        yield_now();
                    }
                })
            })
            .collect();
        join_all(&busy, None).unwrap();
        assert!(counts.iter().all(|count| count.get() >= 999), "{counts:?}");
    });
}

/// A stream that an OS thread keeps full until it is dropped.
fn flood() -> TcpStream {
    let (ours, theirs) = tcp_pair();
    let mut theirs = theirs.into_std().unwrap();
    std::thread::spawn(move || while theirs.write_all(&[0; 64 * 1024]).is_ok() {});
    ours
}

#[test]
fn one_whose_socket_is_always_readable_starves_nobody() {
    in_time(|| {
        let stop = stop_flag();
        let mut stream = flood();
        let reader = spawn({
            let stop = Rc::clone(&stop);
            move || {
                // one byte at a time, so that it never has to wait
                while !stop.get() {
                    stream.read_exact(&mut [0; 1]).unwrap();
                }
            }
        });
        sleep(SHORT);
        stop.set(true);
        reader.join().unwrap();
    });
}

#[test]
fn one_whose_socket_is_always_writable_starves_nobody() {
    in_time(|| {
        let stop = stop_flag();
        let writer = spawn({
            let stop = Rc::clone(&stop);
            move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                while !stop.get() {
                    let _ = socket.send_to(b"x", nobody);
                }
            }
        });
        sleep(SHORT);
        stop.set(true);
        writer.join().unwrap();
    });
}

#[test]
fn many_who_are_always_ready_leave_time_for_one_who_is_not() {
    in_time(|| {
        let stop = stop_flag();
        let busy: Vec<_> = (0..1000)
            .map(|_| {
                let stop = Rc::clone(&stop);
                spawn(move || {
                    while !stop.get() {
                        yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            sleep(SHORT / 10);
        }
        let late = spawn(|| 5);
        assert_eq!(late.join().unwrap(), 5);
        stop.set(true);
        join_all(&busy, None).unwrap();
    });
}
