//! Connections, from C and from std.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use greenserve_tests::{Scratch, c, in_time};

use crate::c_calls::told;
use crate::meanwhile;
use crate::pairs::{owned, set_nonblocking, set_timeout};

fn tcp_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn socket(family: libc::c_int, kind: libc::c_int) -> OwnedFd {
    // SAFETY: it takes numbers.
    owned(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })
}

fn connect(fd: RawFd, address: SocketAddr) -> io::Result<usize> {
    let SocketAddr::V4(address) = address else { unreachable!("IPv4 alone is tested") };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of that length.
    told(unsafe { libc::connect(fd, (&raw const address).cast(), size_of_val(&address) as u32) } as isize)
}

fn accept(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: without an address it takes a number.
    told(unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) } as isize)
        .map(|fd| owned(fd as libc::c_int))
}

/// A listener whose queue is full, with those who are in it: connecting to it is not answered.
fn full() -> (TcpListener, SocketAddr, Vec<OwnedFd>) {
    let (listener, address) = tcp_listener();
    // SAFETY: it takes numbers.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let queued = (0..4).map(|_| {
        let one = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
        let _ = connect(one.as_raw_fd(), address);
        one
    });
    let queued = queued.collect();
    (listener, address, queued)
}

fn flags(fd: RawFd) -> libc::c_int {
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & (libc::O_NONBLOCK | libc::O_APPEND) }
}

#[test]
fn accept_and_accept4_in_c_park_until_somebody_comes() {
    in_time(|| {
        let library = c::load(
            r"
            #include <sys/socket.h>
            int plain(int fd) { return accept(fd, 0, 0); }
            int with_flags(int fd) { return accept4(fd, 0, 0, SOCK_NONBLOCK); }
            ",
        );
        for (name, mode) in [("plain", 0), ("with_flags", libc::O_NONBLOCK)] {
            // SAFETY: as written above.
            let call = unsafe { library.function::<extern "C" fn(RawFd) -> RawFd>(name) };
            let (listener, address) = tcp_listener();
            let taken = greenlet::spawn(move || {
                let one = owned(call(listener.as_raw_fd()));
                assert_eq!(flags(listener.as_raw_fd()), 0, "{name}: put back");
                flags(one.as_raw_fd())
            });
            let client = greenlet::spawn(move || TcpStream::connect(address).map(drop));
            assert_eq!(taken.join().unwrap(), mode, "{name}");
            client.join().unwrap().unwrap();
        }
    });
}

#[test]
fn an_accept_that_must_not_wait_does_not() {
    in_time(|| {
        let (listener, _) = tcp_listener();
        let unix = UnixListener::bind(Scratch::new().path().join("socket")).unwrap();
        for fd in [OwnedFd::from(listener), OwnedFd::from(unix)] {
            set_timeout(fd.as_raw_fd(), libc::SO_RCVTIMEO, 10);
            let job = greenlet::spawn(move || {
                let late = accept(fd.as_raw_fd()).unwrap_err();
                set_timeout(fd.as_raw_fd(), libc::SO_RCVTIMEO, 0);
                set_nonblocking(fd.as_raw_fd());
                (late.kind(), accept(fd.as_raw_fd()).unwrap_err().kind(), flags(fd.as_raw_fd()))
            });
            let (late, now, mode) = job.join().unwrap();
            assert_eq!((late, now), (ErrorKind::WouldBlock, ErrorKind::WouldBlock));
            assert_eq!(mode, libc::O_NONBLOCK, "as the program has set it");
        }
    });
}

#[test]
fn a_kill_ends_accept_with_ecanceled() {
    in_time(|| {
        let (listener, address) = tcp_listener();
        let result = Rc::new(Cell::new(None));
        let slot = result.clone();
        let victim = greenlet::spawn({
            let listener = listener.try_clone().unwrap();
            move || slot.set(Some(accept(listener.as_raw_fd()).map(drop)))
        });
        greenlet::yield_now();
        victim.kill().unwrap();
        let _ = victim.join();
        assert_eq!(result.take().unwrap().unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        let client = greenlet::spawn(move || TcpStream::connect(address).map(drop));
        let other = greenlet::spawn(move || listener.accept().map(drop));
        client.join().unwrap().unwrap();
        other.join().unwrap().unwrap();
    });
}

#[test]
fn threads_may_share_a_listener() {
    const EACH: usize = 200;
    in_time(|| {
        let (listener, address) = tcp_listener();
        let taken = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                let (listener, taken) = (listener.try_clone().unwrap(), &taken);
                scope.spawn(move || {
                    // Its hub ends with the thread, so that what it borrows outlives it.
                    let taken: &'static AtomicUsize = unsafe {
                        // SAFETY: the greenlet is joined below, before the thread ends.
                        &*std::ptr::from_ref(taken)
                    };
                    let server = greenlet::spawn(move || {
                        loop {
                            // None of them may hear EAGAIN.
                            let (mut one, _) = listener.accept().unwrap();
                            let mut byte = [0];
                            one.read_exact(&mut byte).unwrap();
                            if byte == [0] {
                                return;
                            }
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    server.join().unwrap();
                });
            }
            let say = |byte: u8| TcpStream::connect(address).unwrap().write_all(&[byte]).unwrap();
            (0..EACH).for_each(|_| say(1));
            (0..3).for_each(|_| say(0));
        });
        assert_eq!(taken.load(Ordering::Relaxed), EACH);
    });
}

#[test]
fn connect_tells_what_the_kernel_tells() {
    in_time(|| {
        let (listener, address) = tcp_listener();
        let (closed, gone) = tcp_listener();
        drop(closed);
        let job = greenlet::spawn(move || {
            let stream = socket(libc::AF_INET, libc::SOCK_STREAM);
            let refused = connect(stream.as_raw_fd(), gone).unwrap_err().raw_os_error();
            assert_eq!(refused, Some(libc::ECONNREFUSED));
            // As after a plain call, it can be used again.
            assert_eq!(connect(stream.as_raw_fd(), address).unwrap(), 0);
            assert_eq!(flags(stream.as_raw_fd()), 0, "put back");
            let again = connect(stream.as_raw_fd(), address).unwrap_err().raw_os_error();
            assert_eq!(again, Some(libc::EISCONN));
            assert_eq!(connect(-1, address).unwrap_err().raw_os_error(), Some(libc::EBADF));
            let datagrams = socket(libc::AF_INET, libc::SOCK_DGRAM);
            assert_eq!(connect(datagrams.as_raw_fd(), address).unwrap(), 0);
            let own = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
            let result = connect(own.as_raw_fd(), address);
            assert!(result.is_ok() || result.unwrap_err().raw_os_error() == Some(libc::EINPROGRESS));
            assert_eq!(flags(own.as_raw_fd()), libc::O_NONBLOCK);
        });
        job.join().unwrap();
        drop(listener);
    });
}

#[test]
fn connect_that_nobody_answers_ends_by_the_timeout_or_a_kill() {
    in_time(|| {
        let (_listener, address, _queued) = full();
        let stream = socket(libc::AF_INET, libc::SOCK_STREAM);
        set_timeout(stream.as_raw_fd(), libc::SO_SNDTIMEO, 20);
        let result = Rc::new(Cell::new(None));
        let slot = result.clone();
        meanwhile(move || slot.set(Some(connect(stream.as_raw_fd(), address))));
        assert_eq!(result.take().unwrap().unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));

        let stream = Rc::new(socket(libc::AF_INET, libc::SOCK_STREAM));
        let (slot, connecting) = (result.clone(), stream.clone());
        let victim = greenlet::spawn(move || slot.set(Some(connect(connecting.as_raw_fd(), address))));
        greenlet::yield_now();
        victim.kill().unwrap();
        let _ = victim.join();
        assert_eq!(result.take().unwrap().unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        // The attempt is over, and another can be made.
        let (_other, other) = tcp_listener();
        let again = greenlet::spawn(move || connect(stream.as_raw_fd(), other));
        assert_eq!(again.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_unix_listener_with_a_full_queue_is_waited_for() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: it takes numbers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _first = UnixStream::connect(&path).unwrap();
        let second = greenlet::spawn(move || UnixStream::connect(&path).map(drop));
        let taker = greenlet::spawn(move || {
            greenlet::sleep(Duration::from_millis(5));
            (listener.accept().unwrap(), listener.accept().unwrap())
        });
        second.join().unwrap().unwrap();
        taker.join().unwrap();
    });
}

#[test]
fn tcp_of_std_on_both_sides() {
    in_time(|| {
        let (listener, address) = tcp_listener();
        let server = greenlet::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines() {
                writeln!(writer, "{}!", line.unwrap()).unwrap();
            }
            writer.write_all(&vec![b'.'; 2_000_000]).unwrap();
        });
        let client = greenlet::spawn(move || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            for word in ["one", "two", "three"] {
                writeln!(stream, "{word}").unwrap();
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, format!("{word}!\n"));
            }
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            stream.set_read_timeout(None).unwrap();
            stream.set_nonblocking(true).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
            stream.set_nonblocking(false).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            lines.read_to_end(&mut rest).unwrap();
            rest.len()
        });
        assert_eq!(client.join().unwrap(), 2_000_000);
        server.join().unwrap();
    });
}

#[test]
fn datagrams_and_unix_sockets_of_std() {
    in_time(|| {
        let [one, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let to = one.local_addr().unwrap();
        let receiver = greenlet::spawn(move || {
            let mut buffer = [0; 16];
            let (count, from) = one.recv_from(&mut buffer).unwrap();
            one.send_to(&buffer[..count], from).unwrap();
        });
        let sender = greenlet::spawn(move || {
            other.send_to(b"hello", to).unwrap();
            let mut buffer = [0; 16];
            other.recv(&mut buffer).unwrap()
        });
        receiver.join().unwrap();
        assert_eq!(sender.join().unwrap(), 5);

        let (near, far) = UnixDatagram::pair().unwrap();
        let receiver = greenlet::spawn(move || near.recv(&mut [0; 16]).unwrap());
        let sender = greenlet::spawn(move || far.send(b"unix").unwrap());
        assert_eq!((receiver.join().unwrap(), sender.join().unwrap()), (4, 4));

        let (mut near, mut far) = UnixStream::pair().unwrap();
        let receiver = greenlet::spawn(move || near.read(&mut [0; 16]).unwrap());
        let sender = greenlet::spawn(move || far.write(b"stream").unwrap());
        assert_eq!((receiver.join().unwrap(), sender.join().unwrap()), (6, 6));
    });
}

#[test]
fn whatever_of_std_receives_lets_the_sender_run() {
    /// `receives` in a greenlet, and `sends` in another.
    fn both(receives: impl FnOnce() -> io::Result<usize> + 'static, sends: impl FnOnce() + 'static) {
        let receiver = greenlet::spawn(receives);
        greenlet::spawn(sends).join().unwrap();
        assert_eq!(receiver.join().unwrap().unwrap(), 4);
    }
    in_time(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        both(
            move || (&near).read_vectored(&mut [IoSliceMut::new(&mut [0; 3]), IoSliceMut::new(&mut [0; 3])]),
            move || {
                let parts = [IoSlice::new(b"fo"), IoSlice::new(b"ur")];
                assert_eq!(far.write_vectored(&parts).unwrap(), 4);
            },
        );

        let pair = || {
            let [one, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
            one.connect(other.local_addr().unwrap()).unwrap();
            other.connect(one.local_addr().unwrap()).unwrap();
            (one, other)
        };
        type Receives = fn(&UdpSocket) -> io::Result<usize>;
        let ways: [Receives; 4] = [
            |socket| socket.recv(&mut [0; 8]),
            |socket| socket.peek(&mut [0; 8]),
            |socket| socket.recv_from(&mut [0; 8]).map(|(count, _)| count),
            |socket| socket.peek_from(&mut [0; 8]).map(|(count, _)| count),
        ];
        for way in ways {
            let (near, far) = pair();
            both(move || way(&near), move || assert_eq!(far.send(b"four").unwrap(), 4));
        }

        let (near, far) = UnixDatagram::pair().unwrap();
        both(
            move || near.recv_from(&mut [0; 8]).map(|(count, _)| count),
            move || assert_eq!(far.send(b"four").unwrap(), 4),
        );

        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        both(
            move || listener.incoming().next().unwrap()?.read(&mut [0; 8]),
            move || UnixStream::connect(path).unwrap().write_all(b"four").unwrap(),
        );
    });
}

#[test]
fn timeouts_of_std_let_others_run() {
    const MOMENT: Option<Duration> = Some(Duration::from_millis(20));
    fn late(result: io::Result<impl Sized>) {
        assert_eq!(result.err().expect("it is too late").kind(), ErrorKind::WouldBlock);
    }
    in_time(|| {
        let (listener, address) = tcp_listener();
        let tcp = TcpStream::connect(address).unwrap();
        let _accepted = listener.accept().unwrap();
        tcp.set_read_timeout(MOMENT).unwrap();
        tcp.set_write_timeout(MOMENT).unwrap();
        let (unix, _far) = UnixStream::pair().unwrap();
        unix.set_read_timeout(MOMENT).unwrap();
        unix.set_write_timeout(MOMENT).unwrap();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.set_read_timeout(MOMENT).unwrap();
        let (datagrams, _far) = UnixDatagram::pair().unwrap();
        datagrams.set_read_timeout(MOMENT).unwrap();
        datagrams.set_write_timeout(MOMENT).unwrap();

        let (reads, writes) = (tcp.try_clone().unwrap(), tcp);
        meanwhile(move || late((&reads).read(&mut [0])));
        meanwhile(move || late((&writes).write_all(&vec![0; 32 << 20])));
        let (reads, writes) = (unix.try_clone().unwrap(), unix);
        meanwhile(move || late((&reads).read(&mut [0])));
        meanwhile(move || late((&writes).write_all(&vec![0; 32 << 20])));
        meanwhile(move || late(udp.recv_from(&mut [0])));
        let (reads, writes) = (datagrams.try_clone().unwrap(), datagrams);
        meanwhile(move || late(reads.recv(&mut [0])));
        meanwhile(move || late((0..10_000).try_for_each(|_| writes.send(&[0; 1024]).map(drop))));
    });
}

#[test]
fn a_hundred_pairs_on_one_thread() {
    in_time(|| {
        let (listener, address) = tcp_listener();
        let server = greenlet::spawn(move || {
            for _ in 0..100 {
                let (mut stream, _) = listener.accept().unwrap();
                greenlet::spawn(move || {
                    let mut buffer = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..count]).unwrap();
                    }
                });
            }
        });
        let clients: Vec<_> = (0..100_u8)
            .map(|number| {
                greenlet::spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for _ in 0..20 {
                        stream.write_all(&[number; 40]).unwrap();
                        let mut buffer = [0; 40];
                        stream.read_exact(&mut buffer).unwrap();
                        assert_eq!(buffer, [number; 40]);
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
fn without_a_greenlet_connections_are_made_plainly() {
    in_time(|| {
        let (listener, address) = tcp_listener();
        let server = thread::spawn(move || accept(listener.as_raw_fd()).map(drop));
        let client = thread::spawn(move || {
            let stream = socket(libc::AF_INET, libc::SOCK_STREAM);
            connect(stream.as_raw_fd(), address)
        });
        assert_eq!(client.join().unwrap().unwrap(), 0);
        server.join().unwrap().unwrap();
    });
}
