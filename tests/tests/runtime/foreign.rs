//! Waiting on behalf of code that knows nothing of greenlets.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use greenlet::foreign::{self, Interest, Parker, Woken};
use greenserve_tests::{in_process, in_time};

use crate::{FOREVER, SHORT};

fn soon() -> Option<foreign::Deadline> {
    if !foreign::inside() {
        // makes the hub
        greenlet::yield_now();
    }
    foreign::deadline(SHORT)
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

#[test]
fn a_thread_without_a_hub_is_refused_and_gets_none() {
    in_time(|| {
        assert!(!foreign::inside() && !foreign::can_park() && !foreign::yield_now());
        assert_eq!((foreign::hub_id(), foreign::current_id()), (None, None));
        assert!(foreign::deadline(SHORT).is_none());
        assert_eq!(foreign::sleep(None), Woken::Refused);
        assert_eq!(foreign::wait_readable(0, None).unwrap(), Woken::Refused);
        assert_eq!(foreign::wait_any(&[(0, Interest::READ)], None).unwrap(), Woken::Refused);
        assert!(Parker::new().is_none());
        assert_eq!(foreign::unblock(|| std::thread::current().id()), std::thread::current().id());
        assert!(!foreign::inside());
    });
}

#[test]
fn a_sleep_lets_others_run_and_ends_at_its_deadline() {
    in_time(|| {
        let log = Log::default();
        let (a, b) = (log.clone(), log.clone());
        let sleeper = greenlet::spawn(move || {
            let woken = foreign::sleep(soon());
            a.add(format!("{woken:?}"));
        });
        greenlet::spawn(move || b.add("other"));
        sleeper.join().unwrap();
        assert_eq!(log.all(), ["other", "Deadline"]);
        assert_eq!(greenlet::stats().timers, 0);
    });
}

#[test]
fn a_kill_is_told_once_and_raised_by_the_next_call_of_ours() {
    in_time(|| {
        let log = Log::default();
        let inner = log.clone();
        let victim = greenlet::spawn(move || {
            inner.add(format!("{:?}", foreign::sleep(None)));
            inner.add(format!("{:?}", foreign::sleep(soon())));
            let (ours, _theirs) = pair();
            inner.add(format!("{:?}", foreign::wait_readable(ours.as_raw_fd(), soon()).unwrap()));
            greenlet::sleep(FOREVER);
        });
        greenlet::sleep(SHORT);
        victim.kill().unwrap();
        assert_eq!(log.all(), ["Interrupted", "Deadline", "Deadline"]);
        assert!(matches!(victim.join(), Err(greenlet::JoinError::Killed)));
    });
}

#[test]
fn a_shield_keeps_a_kill_from_being_told() {
    in_time(|| {
        let victim = greenlet::spawn(|| greenlet::shield(|| foreign::sleep(soon())));
        greenlet::yield_now();
        victim.kill().unwrap();
        assert!(matches!(victim.join(), Err(greenlet::JoinError::Killed)));
    });
}

#[test]
fn a_timeout_that_was_told_ends_its_block_as_elapsed() {
    in_time(|| {
        let told = Rc::new(Cell::new(None));
        let inner = told.clone();
        let elapsed = greenlet::timeout(SHORT, move || inner.set(Some(foreign::sleep(None))));
        assert!(elapsed.is_err());
        assert_eq!(told.get(), Some(Woken::Interrupted));
        assert_eq!(foreign::sleep(soon()), Woken::Deadline, "it is not told again");
        assert_eq!(greenlet::timeout(FOREVER, || 7).unwrap(), 7);
    });
}

#[test]
fn a_descriptor_in_blocking_mode_is_waited_for_and_stays_as_it_is() {
    in_time(|| {
        let (mut ours, mut theirs) = pair();
        let fd = ours.as_raw_fd();
        // SAFETY: fcntl of an open descriptor.
        let flags = || unsafe { libc::fcntl(fd, libc::F_GETFL) };
        let before = flags();
        for round in 0..3_u8 {
            assert_eq!(foreign::wait_readable(fd, soon()).unwrap(), Woken::Deadline);
            let reader = greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap());
            greenlet::yield_now();
            theirs.write_all(&[round]).unwrap();
            assert_eq!(reader.join().unwrap(), Woken::Event);
            assert_eq!(foreign::wait_readable(fd, None).unwrap(), Woken::Event, "it is still there");
            let mut byte = [0];
            ours.read_exact(&mut byte).unwrap();
            assert_eq!((byte[0], flags()), (round, before));
        }
        assert_eq!(foreign::wait_writable(fd, None).unwrap(), Woken::Event);
        drop(theirs);
        assert_eq!(foreign::wait_readable(fd, None).unwrap(), Woken::Event, "the end counts");
    });
}

#[test]
fn several_greenlets_may_wait_for_one_descriptor() {
    in_time(|| {
        let (ours, mut theirs) = pair();
        let fd = ours.as_raw_fd();
        let readers: Vec<_> =
            (0..5).map(|_| greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap())).collect();
        let writer = greenlet::spawn(move || foreign::wait_writable(fd, None).unwrap());
        assert_eq!(writer.join().unwrap(), Woken::Event);
        theirs.write_all(b"x").unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Woken::Event);
        }
    });
}

/// Fills a socket, so that it has no room.
fn fill(socket: &UnixStream) {
    socket.set_nonblocking(true).unwrap();
    while (&*socket).write(&[0; 65536]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
}

#[test]
fn a_reader_and_a_writer_of_one_descriptor_are_told_apart() {
    in_time(|| {
        let (ours, mut theirs) = pair();
        let fd = ours.as_raw_fd();
        fill(&ours);
        let log = Log::default();
        let (a, b) = (log.clone(), log.clone());
        let writer = greenlet::spawn(move || {
            let _ = foreign::wait_writable(fd, None).unwrap();
            a.add("writer");
        });
        let reader = greenlet::spawn(move || {
            let _ = foreign::wait_readable(fd, None).unwrap();
            b.add("reader");
        });
        greenlet::sleep(SHORT);
        theirs.write_all(b"x").unwrap();
        reader.join().unwrap();
        assert_eq!(log.all(), ["reader"]);
        theirs.set_nonblocking(true).unwrap();
        while theirs.read(&mut [0; 65536]).is_ok() {}
        writer.join().unwrap();
        assert_eq!(log.all(), ["reader", "writer"]);
    });
}

/// Makes `fd` stand for the same file as `other`.
fn replace(fd: RawFd, other: &impl AsRawFd) {
    // SAFETY: both are open, and nobody else relies on what `fd` was.
    assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
}

#[test]
fn a_number_that_stands_for_another_file_behind_our_back_is_watched_as_that() {
    in_time(|| {
        let (ours, theirs) = pair();
        let fd = ours.as_raw_fd();
        assert_eq!(foreign::wait_readable(fd, soon()).unwrap(), Woken::Deadline);
        for _ in 0..3 {
            let (other, mut peer) = pair();
            replace(fd, &other);
            drop(other);
            let reader = greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap());
            greenlet::sleep(SHORT);
            peer.write_all(b"x").unwrap();
            assert_eq!(reader.join().unwrap(), Woken::Event);
        }
        drop(theirs);
    });
}

#[test]
fn a_sockets_own_timeout_ends_a_wait_whether_the_hub_is_idle_or_busy() {
    in_time(|| {
        greenlet::yield_now();
        let (ours, mut theirs) = pair();
        let fd = ours.as_raw_fd();
        let busy = Rc::new(Cell::new(false));
        let (running, over) = (busy.clone(), Rc::new(Cell::new(false)));
        let ended = over.clone();
        let other = greenlet::spawn(move || {
            while !ended.get() {
                if running.get() { greenlet::yield_now() } else { greenlet::sleep(SHORT) }
            }
        });
        for is_busy in [false, true, false] {
            busy.set(is_busy);
            ours.set_read_timeout(Some(SHORT)).unwrap();
            let began = std::time::Instant::now();
            assert_eq!(foreign::wait_received(fd, false).unwrap(), Woken::Deadline);
            assert!(began.elapsed() >= SHORT, "never before its time");
            // It is asked for anew by each wait.
            ours.set_read_timeout(None).unwrap();
            let reader = greenlet::spawn(move || foreign::wait_received(fd, true).unwrap());
            greenlet::sleep(SHORT * 3);
            assert!(!reader.is_ready());
            theirs.write_all(b"x").unwrap();
            assert_eq!(reader.join().unwrap(), Woken::Event);
            (&ours).read_exact(&mut [0]).unwrap();
        }
        over.set(true);
        other.join().unwrap();
    });
}

#[test]
fn a_number_that_is_said_to_be_known_and_stands_for_another_file_is_not_waited_for() {
    in_time(|| {
        greenlet::yield_now();
        let (ours, theirs) = pair();
        let fd = ours.as_raw_fd();
        assert_eq!(foreign::wait_received(fd, true).unwrap(), Woken::Event, "nobody knows it yet");
        ours.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(foreign::wait_received(fd, true).unwrap(), Woken::Deadline);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        replace(fd, &listener);
        assert_eq!(foreign::wait_received(fd, true).unwrap(), Woken::Event);
        drop(theirs);
    });
}

#[test]
fn closing_ends_the_waits_of_this_thread_and_forgets_the_number() {
    in_time(|| {
        let (ours, _theirs) = pair();
        let fd = ours.as_raw_fd();
        let before = greenlet::stats().descriptors;
        let reader = greenlet::spawn(move || foreign::wait_readable(fd, None));
        greenlet::yield_now();
        assert_eq!(greenlet::stats().descriptors, before + 1);
        foreign::closing(fd);
        drop(ours);
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert_eq!(greenlet::stats().descriptors, before);
        for none in [-1, 1_000_000] {
            let error = foreign::wait_readable(none, None).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    });
}

#[test]
fn a_regular_file_is_always_ready() {
    in_time(|| {
        greenlet::yield_now();
        let file = File::open("/proc/self/exe").unwrap();
        let fd = file.as_raw_fd();
        assert_eq!(foreign::wait_readable(fd, None).unwrap(), Woken::Event);
        let (ours, _theirs) = pair();
        let both = [(ours.as_raw_fd(), Interest::READ), (fd, Interest::READ)];
        assert_eq!(foreign::wait_any(&both, None).unwrap(), Woken::Event);
    });
}

#[test]
fn a_socket_of_ours_may_be_waited_for_by_its_number() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = greenlet::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let fd = stream.as_raw_fd();
        let native = greenlet::spawn(move || {
            let mut stream = stream;
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            (byte[0], stream)
        });
        greenlet::yield_now();
        let foreign = greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap());
        greenlet::sleep(SHORT);
        peer.write_all(b"xy").unwrap();
        let (byte, _stream) = native.join().unwrap();
        assert_eq!((byte, foreign.join().unwrap()), (b'x', Woken::Event));
    });
}

#[test]
fn the_first_of_several_descriptors_ends_a_wait_for_any() {
    in_time(|| {
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        let mut asked: Vec<_> = pairs.iter().map(|(ours, _)| (ours.as_raw_fd(), Interest::READ)).collect();
        // twice, for something else
        asked.push((asked[0].0, Interest { exceptional: true, ..Interest::default() }));
        assert_eq!(foreign::wait_any(&asked, soon()).unwrap(), Woken::Deadline);
        let before = greenlet::stats();
        for number in [2, 0] {
            let asked = asked.clone();
            let waiting = greenlet::spawn(move || foreign::wait_any(&asked, None).unwrap());
            greenlet::yield_now();
            (&pairs[number].1).write_all(b"x").unwrap();
            assert_eq!(waiting.join().unwrap(), Woken::Event);
            (&pairs[number].0).read_exact(&mut [0]).unwrap();
        }
        asked.push((asked[1].0, Interest::WRITE));
        assert_eq!(foreign::wait_any(&asked, None).unwrap(), Woken::Event, "there is room to write");
        assert_eq!(foreign::wait_any(&[], soon()).unwrap(), Woken::Deadline);
        assert_eq!(greenlet::stats(), before);
    });
}

/// Has `f` run with a parker's pointer on a thread of its own.
fn elsewhere(parker: &Parker, f: impl FnOnce(*const Parker) + Send + 'static) {
    let address = ptr::from_ref(parker).addr();
    let there = ptr::with_exposed_provenance::<Parker>(ptr::from_ref(parker).expose_provenance());
    assert_eq!(there.addr(), address);
    std::thread::spawn(move || f(ptr::with_exposed_provenance(address)));
}

#[test]
fn a_parker_is_called_from_another_thread_and_no_wait_is_hopeless_meanwhile() {
    in_time(|| {
        greenlet::yield_now();
        let parker = Parker::new().unwrap();
        elsewhere(&parker, |parker| {
            std::thread::sleep(SHORT);
            // SAFETY: its owner waits until it is called.
            unsafe { Parker::unpark(parker) };
        });
        while parker.park(&"a_test", None, true) != Woken::Event || !parker.is_called() {}
    });
}

#[test]
fn a_parker_is_called_by_a_greenlet_of_its_thread_before_or_after_it_parks() {
    in_time(|| {
        for early in [true, false] {
            let slot = Rc::new(Cell::new(ptr::null()));
            let shown = slot.clone();
            let waiting = greenlet::spawn(move || {
                let parker = Parker::new().unwrap();
                shown.set(&raw const parker);
                if early {
                    greenlet::yield_now();
                }
                while !parker.is_called() {
                    let _ = parker.park(&"a_test", None, false);
                }
            });
            greenlet::yield_now();
            // SAFETY: its owner waits until it is called.
            unsafe { Parker::unpark(slot.get()) };
            waiting.join().unwrap();
        }
    });
}

#[test]
fn a_parker_may_time_out_and_be_called_at_the_same_moment() {
    in_time(|| {
        greenlet::yield_now();
        let mut called = 0;
        for round in 0..300 {
            let (taken, asked) = mpsc::channel::<()>();
            let parker = Parker::new().unwrap();
            let (sender, done) = mpsc::channel();
            elsewhere(&parker, move |parker| {
                if asked.recv_timeout(Duration::from_micros(round)).is_err() {
                    // SAFETY: its owner waits for this to have been done if it did not ask it not to be.
                    unsafe { Parker::unpark(parker) };
                }
                sender.send(()).unwrap();
            });
            let _ = parker.park(&"a_test", foreign::deadline(Duration::from_micros(round)), false);
            let _ = taken.send(());
            done.recv().unwrap();
            called += u32::from(parker.is_called());
        }
        assert!(called > 0);
        assert_eq!(greenlet::stats().timers, 0);
    });
}

#[test]
fn a_wait_of_a_lock_is_not_told_of_a_kill() {
    in_time(|| {
        let slot = Rc::new(Cell::new(ptr::null()));
        let shown = slot.clone();
        let victim = greenlet::spawn(move || {
            let parker = Parker::new().unwrap();
            shown.set(&raw const parker);
            while !parker.is_called() {
                assert_eq!(parker.park(&"a_test", None, false), Woken::Event);
            }
            assert_eq!(foreign::sleep(None), Woken::Interrupted, "it is told by the next that may be");
        });
        greenlet::yield_now();
        assert!(victim.kill_timeout(SHORT).is_err());
        // SAFETY: its owner waits until it is called.
        unsafe { Parker::unpark(slot.get()) };
        victim.join().unwrap();
    });
}

#[test]
fn what_is_unblocked_may_borrow_and_a_kill_waits_for_it() {
    in_time(|| {
        let log = Log::default();
        let inner = log.clone();
        let (go, mut wait) = mpsc::channel::<()>();
        let victim = greenlet::spawn(move || {
            let mut local = vec![1, 2, 3];
            let here = std::thread::current().id();
            let (asked, numbers) = (&mut wait, &mut local);
            let there = foreign::unblock(move || {
                asked.recv().unwrap();
                numbers.push(4);
                std::thread::current().id()
            });
            assert_ne!(here, there);
            inner.add(local.len());
            greenlet::sleep(FOREVER);
        });
        greenlet::sleep(SHORT);
        assert!(victim.kill_timeout(SHORT).is_err());
        go.send(()).unwrap();
        assert!(matches!(victim.join(), Err(greenlet::JoinError::Killed)));
        assert_eq!(log.all(), ["4"]);
    });
}

/// Notes in its destructor whether a call can be parked.
struct Asks(Rc<Cell<Option<bool>>>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.set(Some(foreign::can_park()));
        assert_eq!(foreign::sleep(None), Woken::Refused);
    }
}

#[test]
fn nobody_is_parked_while_unwinding_or_within_may_block() {
    in_time(|| {
        assert!(greenlet::spawn(foreign::can_park).join().unwrap());
        assert!(!greenlet::spawn(|| greenlet::may_block(foreign::can_park)).join().unwrap());
        let asked = Rc::new(Cell::new(None));
        let guard = Asks(asked.clone());
        let panicking = greenlet::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        });
        assert!(panicking.join().is_err());
        assert_eq!(asked.get(), Some(false));
    });
}

#[test]
fn nobody_is_parked_in_the_child_of_a_plain_fork() {
    in_process("foreign::nobody_is_parked_in_the_child_of_a_plain_fork", || {
        let greenlet = greenlet::spawn(|| {
            // SAFETY: the child does nothing but to look and to leave.
            match unsafe { libc::fork() } {
                0 => {
                    let refused = !foreign::can_park() && foreign::sleep(None) == Woken::Refused;
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(if refused { 7 } else { 8 }) }
                }
                child => {
                    assert!(child > 0 && foreign::can_park());
                    let mut status = 0;
                    // SAFETY: the status is written to our variable.
                    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                    libc::WEXITSTATUS(status)
                }
            }
        });
        assert_eq!(greenlet.join().unwrap(), 7);
    });
}

#[test]
fn an_end_of_file_and_an_error_are_events() {
    in_time(|| {
        greenlet::yield_now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let fd = stream.as_raw_fd();
        let reader = greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap());
        greenlet::sleep(SHORT);
        drop(peer);
        assert_eq!(reader.join().unwrap(), Woken::Event);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(foreign::wait_writable(writer.as_raw_fd(), None).unwrap(), Woken::Event);
    });
}

#[test]
fn an_epoll_descriptor_can_be_waited_for() {
    in_time(|| {
        greenlet::yield_now();
        // SAFETY: makes a descriptor, which is then owned.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (ours, mut theirs) = pair();
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
        // SAFETY: both are open, and the event is ours.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, ours.as_raw_fd(), &mut event) };
        assert_eq!(added, 0);
        let fd = epoll.as_raw_fd();
        let waiting = greenlet::spawn(move || foreign::wait_readable(fd, None).unwrap());
        greenlet::sleep(SHORT);
        theirs.write_all(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), Woken::Event);
    });
}

#[test]
fn a_descriptor_that_becomes_one_of_ours_can_still_be_waited_for() {
    in_time(|| {
        let (ours, mut theirs) = pair();
        let number = ours.as_raw_fd();
        let reader = greenlet::spawn(move || {
            let mut woken = 0;
            loop {
                assert_eq!(foreign::wait_readable(number, None).unwrap(), Woken::Event);
                woken += 1;
                // SAFETY: an open descriptor, and room for a byte.
                let found = unsafe {
                    libc::recv(number, [0_u8].as_mut_ptr().cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT)
                };
                if found == 1 {
                    return woken;
                }
            }
        });
        greenlet::yield_now();
        let mut adopted = greenlet::net::UnixStream::from_std(ours).unwrap();
        let native = greenlet::spawn(move || {
            let mut byte = [0];
            adopted.read_exact(&mut byte).unwrap();
            (byte[0], adopted)
        });
        greenlet::sleep(SHORT);
        theirs.write_all(b"xy").unwrap();
        assert_eq!(native.join().unwrap().0, b'x');
        assert!(reader.join().unwrap() >= 1);
    });
}
