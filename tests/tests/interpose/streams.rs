//! Moving bytes.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use greenserve_tests::{Scratch, in_time};

use crate::c_calls::{Calls, told};
use crate::pairs::{
    self, Pair, is_socket, messages, owned, pipe, put, set_nonblocking, set_timeout, streams, tcp,
    unix_stream,
};

/// Runs `waits` in a greenlet, and `ends`, without which it would wait for ever, in another; gives what `waits` gave.
fn until<T: 'static>(waits: impl FnOnce() -> T + 'static, ends: impl FnOnce() + 'static) -> T {
    let waiting = greenlet::spawn(waits);
    let ending = greenlet::spawn(ends);
    let value = waiting.join().unwrap();
    ending.join().unwrap();
    value
}

fn numbers(count: usize) -> Vec<u8> {
    let mut numbers = (0..251).collect::<Vec<u8>>().repeat(count / 251 + 1);
    numbers.truncate(count);
    numbers
}

/// Reads so many bytes from an end of a pair, on a thread of its own.
fn collect(reader: &OwnedFd, count: usize) -> thread::JoinHandle<Vec<u8>> {
    let mut file = File::from(reader.try_clone().unwrap());
    thread::spawn(move || {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).unwrap();
        bytes
    })
}

fn errno(result: io::Result<usize>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn whatever_reads_waits_for_bytes_of_whatever_kind() {
    in_time(|| {
        let calls = Calls::load();
        for pair in streams().into_iter().chain(messages()) {
            let calls = if is_socket(pair.reads()) { calls.receivers() } else { calls.readers() };
            let pair = Rc::new(pair);
            for call in calls {
                let (near, far) = (pair.clone(), pair.clone());
                let got = until(
                    move || {
                        let mut buffer = [0; 64];
                        call.receive(near.reads(), &mut buffer).map(|count| buffer[..count].to_vec())
                    },
                    move || put(&far, b"a few bytes"),
                );
                assert_eq!(got.unwrap(), b"a few bytes", "{} of a {}", call.name, pair.kind);
            }
        }
    });
}

#[test]
fn whatever_writes_waits_until_all_is_taken() {
    const MUCH: usize = 1_500_000;
    in_time(|| {
        let calls = Calls::load();
        for kind in [pipe, unix_stream, tcp, pairs::fifo, pairs::terminal] {
            let calls = if is_socket(kind().writes()) { calls.senders() } else { calls.writers() };
            for call in calls {
                let much = if kind().kind == "terminal" { 100_000 } else { MUCH };
                let pair = kind();
                let reader = Rc::new(Cell::new(None));
                let (slot, source) = (reader.clone(), pair.reader.try_clone().unwrap());
                let fd = pair.writes();
                let sent = until(
                    move || call.send(fd, &numbers(much)),
                    move || slot.set(Some(collect(&source, much))),
                );
                assert_eq!(sent.unwrap(), much, "{} to a {}", call.name, pair.kind);
                let came = reader.take().unwrap().join().unwrap();
                drop(pair);
                assert!(came == numbers(much), "{}: {} bytes", call.name, came.len());
            }
        }
    });
}

#[test]
fn the_end_of_a_stream_ends_a_read() {
    in_time(|| {
        let calls = Calls::load();
        for kind in [pipe, unix_stream, tcp, pairs::fifo] {
            for call in calls.readers() {
                let Pair { reader, writer, kind } = kind();
                let got = until(move || call.receive(reader.as_raw_fd(), &mut [0; 8]), move || drop(writer));
                assert_eq!(got.unwrap(), 0, "{} of a {kind}", call.name);
            }
        }
    });
}

#[test]
fn std_reads_and_writes_pipes() {
    in_time(|| {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let got = until(
            move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).map(|_| text.len())
            },
            move || writer.write_all(&vec![b'x'; 300_000]).unwrap(),
        );
        assert_eq!(got.unwrap(), 300_000);
    });
}

#[test]
fn std_copies_within_the_kernel() {
    const MUCH: usize = 4_000_000;
    in_time(|| {
        // sendfile(2)
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, numbers(MUCH)).unwrap();
        for pair in [unix_stream(), tcp(), pipe()] {
            let (mut file, mut to) = (File::open(&path).unwrap(), File::from(pair.writer));
            let came = Rc::new(Cell::new(None));
            let (slot, source) = (came.clone(), pair.reader);
            let copied = until(
                move || io::copy(&mut file, &mut to).unwrap(),
                move || slot.set(Some(collect(&source, MUCH))),
            );
            assert_eq!(copied, MUCH as u64, "to a {}", pair.kind);
            assert!(came.take().unwrap().join().unwrap() == numbers(MUCH), "to a {}", pair.kind);
        }

        // splice(2), from a pipe that has nothing yet
        let (mut from, mut writer) = io::pipe().unwrap();
        let to = unix_stream();
        let (mut socket, source) = (std::os::unix::net::UnixStream::from(to.writer), to.reader);
        let copied = until(
            move || io::copy(&mut from, &mut socket).unwrap(),
            move || writer.write_all(b"a few bytes").unwrap(),
        );
        assert_eq!(copied, 11);
        assert_eq!(collect(&source, 11).join().unwrap(), b"a few bytes");
    });
}

#[test]
fn counters_timers_and_watches_are_waited_for() {
    in_time(|| {
        let read = |fd: RawFd| {
            let mut buffer = [0_u8; 512];
            // SAFETY: the buffer has as much room.
            told(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
        };
        // SAFETY: it takes numbers.
        let counter = Rc::new(owned(unsafe { libc::eventfd(0, 0) }));
        let other = counter.clone();
        let got = until(
            move || read(counter.as_raw_fd()),
            move || {
                // SAFETY: a counter takes eight bytes.
                let sent = unsafe { libc::write(other.as_raw_fd(), (&raw const ONE).cast(), 8) };
                assert_eq!(sent, 8);
            },
        );
        assert_eq!(got.unwrap(), 8);

        // SAFETY: it takes numbers.
        let timer = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) });
        let number = timer.as_raw_fd();
        let got = until(
            move || read(number),
            move || {
                // SAFETY: zeroes are valid; it reads one structure.
                unsafe {
                    let mut time: libc::itimerspec = std::mem::zeroed();
                    time.it_value.tv_nsec = 1;
                    assert_eq!(libc::timerfd_settime(number, 0, &raw const time, std::ptr::null_mut()), 0);
                }
            },
        );
        assert_eq!(got.unwrap(), 8);
        drop(timer);

        let scratch = Scratch::new();
        // SAFETY: it takes numbers.
        let watch = owned(unsafe { libc::inotify_init1(0) });
        let path = std::ffi::CString::new(scratch.path().to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string.
        assert!(unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) } >= 0);
        let got = until(
            move || read(watch.as_raw_fd()),
            move || drop(File::create(scratch.path().join("file")).unwrap()),
        );
        assert!(got.unwrap() > 0);
    });
}

static ONE: u64 = 1;

#[test]
fn a_counter_that_is_full_is_waited_for() {
    in_time(|| {
        // SAFETY: it takes numbers.
        let counter = Rc::new(owned(unsafe { libc::eventfd(0, 0) }));
        let other = counter.clone();
        let write = |fd: RawFd, value: u64| {
            // SAFETY: a counter takes eight bytes.
            told(unsafe { libc::write(fd, (&raw const value).cast(), 8) })
        };
        assert_eq!(write(counter.as_raw_fd(), u64::MAX - 1).unwrap(), 8);
        let got = until(
            move || write(counter.as_raw_fd(), 5),
            move || {
                let mut value = 0_u64;
                // SAFETY: a counter gives eight bytes.
                assert_eq!(unsafe { libc::read(other.as_raw_fd(), (&raw mut value).cast(), 8) }, 8);
                assert_eq!(value, u64::MAX - 1);
            },
        );
        assert_eq!(got.unwrap(), 8);
    });
}

#[test]
fn what_the_program_made_nonblocking_does_not_wait() {
    in_time(|| {
        let calls = Calls::load();
        let all = greenlet::spawn(move || {
            for pair in streams().into_iter().chain(messages()) {
                set_nonblocking(pair.reads());
                set_nonblocking(pair.writes());
                let socket = is_socket(pair.reads());
                for call in if socket { calls.receivers() } else { calls.readers() } {
                    let got = errno(call.receive(pair.reads(), &mut [0; 8]));
                    assert_eq!(got, Some(libc::EAGAIN), "{} of a {}", call.name, pair.kind);
                }
                if pair.kind == "udp" {
                    continue; // it takes everything
                }
                for call in if socket { calls.senders() } else { calls.writers() } {
                    let fill = numbers(if messages_are_of(&pair) { 1_000 } else { 3_000_000 });
                    let mut rounds = 0;
                    // The first gets a part in, and at last there is no room.
                    let error = loop {
                        match call.send(pair.writes(), &fill) {
                            Ok(count) => assert!(count > 0 && count <= fill.len()),
                            Err(error) => break error,
                        }
                        rounds += 1;
                        assert!(rounds < 10_000, "{} to a {}", call.name, pair.kind);
                    };
                    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{} to a {}", call.name, pair.kind);
                }
            }
        });
        all.join().unwrap();
    });
}

fn messages_are_of(pair: &Pair) -> bool {
    !["pipe", "fifo", "unix stream", "tcp", "terminal"].contains(&pair.kind)
}

#[test]
fn dontwait_is_honoured_on_blocking_sockets() {
    in_time(|| {
        let calls = Calls::load();
        let job = greenlet::spawn(move || {
            let pair = unix_stream();
            assert_eq!(errno(calls.get("recv_dont").receive(pair.reads(), &mut [0; 8])), Some(libc::EAGAIN));
            let send = calls.get("send_dont");
            while send.send(pair.writes(), &[0; 10_000]).is_ok() {}
            assert_eq!(errno(send.send(pair.writes(), &[0; 10_000])), Some(libc::EAGAIN));
            let all = calls.get("recv_all_dont").receive(pair.reads(), &mut vec![0; 100_000_000]).unwrap();
            assert!(all > 0, "what was there");
        });
        job.join().unwrap();
    });
}

#[test]
fn timeouts_of_sockets_end_waits_with_eagain() {
    in_time(|| {
        let calls = Calls::load();
        for kind in [unix_stream, tcp] {
            for call in calls.receivers() {
                let pair = kind();
                set_timeout(pair.reads(), libc::SO_RCVTIMEO, 20);
                let ran = Rc::new(Cell::new(false));
                let seen = ran.clone();
                let got = until(
                    move || (call.receive(pair.reads(), &mut [0; 8]), seen.get()),
                    move || ran.set(true),
                );
                assert_eq!(errno(got.0), Some(libc::EAGAIN), "{}", call.name);
                assert!(got.1, "{}: nobody else ran", call.name);
            }
            for call in calls.senders() {
                let pair = kind();
                set_timeout(pair.writes(), libc::SO_SNDTIMEO, 20);
                let (part, nothing) = greenlet::spawn(move || {
                    let much = vec![1; 8_000_000];
                    let mut last = call.send(pair.writes(), &much);
                    let part = last.as_ref().unwrap().to_owned();
                    // The other side may make room a little later.
                    while last.is_ok() {
                        last = call.send(pair.writes(), &much);
                    }
                    (part, last)
                })
                .join()
                .unwrap();
                assert!(part > 0 && part < 8_000_000, "{} has sent {part}", call.name);
                assert_eq!(errno(nothing), Some(libc::EAGAIN), "{}", call.name);
            }
        }
    });
}

#[test]
fn waitall_waits_for_all_or_the_end() {
    in_time(|| {
        let calls = Calls::load();
        for kind in [unix_stream, tcp] {
            for name in ["recv_all", "recvfrom_all", "recvmsg_all", "recv_all_peek"] {
                let call = calls.get(name);
                let Pair { reader, writer, .. } = kind();
                let got = until(
                    move || {
                        let (mut all, mut rest) = ([0; 9], [0; 9]);
                        let first =
                            call.receive(reader.as_raw_fd(), &mut all).map(|count| all[..count].to_vec());
                        if name == "recv_all_peek" {
                            assert_eq!(File::from(reader.try_clone().unwrap()).read(&mut [0; 9]).unwrap(), 9);
                        }
                        let second =
                            call.receive(reader.as_raw_fd(), &mut rest).map(|count| rest[..count].to_vec());
                        (first.unwrap(), second.unwrap())
                    },
                    move || {
                        let mut writer = File::from(writer);
                        for piece in ["ab", "cdef", "ghi", "jkl"] {
                            writer.write_all(piece.as_bytes()).unwrap();
                            greenlet::sleep(Duration::from_millis(3));
                        }
                    },
                );
                assert_eq!(got, (b"abcdefghi".to_vec(), b"jkl".to_vec()), "{name}");
            }
        }
    });
}

#[test]
fn waitall_means_nothing_to_messages() {
    in_time(|| {
        let calls = Calls::load();
        for pair in messages() {
            for name in ["recv_all", "recvmsg_all"] {
                put(&pair, b"ab");
                let (call, fd) = (calls.get(name), pair.reads());
                let got = greenlet::spawn(move || call.receive(fd, &mut [0; 9])).join().unwrap();
                assert_eq!(got.unwrap(), 2, "{name} of {}", pair.kind);
            }
        }
    });
}

#[test]
fn nobody_to_read_is_epipe_or_what_was_taken_before() {
    in_time(|| {
        let calls = Calls::load();
        for kind in [pipe, unix_stream] {
            for call in if kind().kind == "pipe" { calls.writers() } else { calls.senders() } {
                let Pair { reader, writer, .. } = kind();
                let fd = writer.as_raw_fd();
                let part = until(move || call.send(fd, &numbers(4_000_000)), move || drop(reader));
                let part = part.unwrap();
                assert!(part > 0 && part < 4_000_000, "{} has sent {part}", call.name);
                let nothing = greenlet::spawn(move || call.send(fd, b"more")).join().unwrap();
                assert_eq!(errno(nothing), Some(libc::EPIPE), "{}", call.name);
            }
        }
    });
}

#[test]
fn a_kill_ends_a_read_with_ecanceled_and_a_write_with_what_was_taken() {
    in_time(|| {
        let calls = Calls::load();
        for call in calls.receivers() {
            let pair = unix_stream();
            let slot = Rc::new(Cell::new(None));
            let result = slot.clone();
            let victim = greenlet::spawn(move || slot.set(Some(call.receive(pair.reads(), &mut [0; 8]))));
            greenlet::yield_now();
            victim.kill().unwrap();
            let _ = victim.join();
            assert_eq!(errno(result.take().unwrap()), Some(libc::ECANCELED), "{}", call.name);
        }
        for call in calls.senders() {
            let pair = unix_stream();
            let slot = Rc::new(Cell::new(None));
            let result = slot.clone();
            let victim =
                greenlet::spawn(move || slot.set(Some(call.send(pair.writes(), &numbers(4_000_000)))));
            greenlet::yield_now();
            victim.kill().unwrap();
            let _ = victim.join();
            let part = result.take().unwrap().unwrap();
            assert!(part > 0 && part < 4_000_000, "{} has sent {part}", call.name);
        }
    });
}

#[test]
fn without_a_greenlet_calls_are_the_plain_ones() {
    in_time(|| {
        let calls = Calls::load();
        for pair in streams().into_iter().chain(messages()) {
            let socket = is_socket(pair.reads());
            for call in if socket { calls.receivers() } else { calls.readers() } {
                thread::scope(|scope| {
                    let got = scope.spawn(|| {
                        let mut buffer = [0; 32];
                        call.receive(pair.reads(), &mut buffer).map(|count| buffer[..count].to_vec())
                    });
                    put(&pair, b"bytes");
                    assert_eq!(got.join().unwrap().unwrap(), b"bytes", "{} of a {}", call.name, pair.kind);
                });
            }
            for call in if socket { calls.senders() } else { calls.writers() } {
                let sent = thread::scope(|scope| scope.spawn(|| call.send(pair.writes(), b"123456")).join());
                assert_eq!(sent.unwrap().unwrap(), 6, "{} to a {}", call.name, pair.kind);
            }
        }
    });
}

#[test]
fn errno_stays_as_it_was_and_errors_are_the_kernels() {
    in_time(|| {
        let calls = Calls::load();
        let job = greenlet::spawn(move || {
            let pair = unix_stream();
            for call in calls.receivers() {
                put(&pair, b"12345678");
                // SAFETY: the address of the thread's own.
                unsafe { *libc::__errno_location() = 77 };
                let got = call.receive(pair.reads(), &mut [0; 8]);
                // SAFETY: as above.
                let left = unsafe { *libc::__errno_location() };
                assert_eq!((got.unwrap(), left), (8, 77), "{}", call.name);
                assert_eq!(errno(call.receive(-1, &mut [0; 8])), Some(libc::EBADF), "{}", call.name);
            }
            for call in calls.senders() {
                assert_eq!(errno(call.send(-1, b"12345678")), Some(libc::EBADF), "{}", call.name);
            }
            let pair = pipe();
            assert_eq!(
                errno(calls.get("call_recv").receive(pair.reads(), &mut [0; 8])),
                Some(libc::ENOTSOCK)
            );
            assert_eq!(errno(calls.get("call_read").receive(pair.writes(), &mut [0; 8])), Some(libc::EBADF));
            assert_eq!(errno(calls.get("call_write").send(pair.reads(), b"x")), Some(libc::EBADF));
        });
        job.join().unwrap();
    });
}

#[test]
fn files_on_disk_are_read_and_written_whole() {
    in_time(|| {
        let calls = Calls::load();
        let job = greenlet::spawn(move || {
            let scratch = Scratch::new();
            let path = scratch.path().join("file");
            for (writer, reader) in calls.writers().into_iter().zip(calls.readers()) {
                let file = File::create(&path).unwrap();
                assert_eq!(writer.send(file.as_raw_fd(), &numbers(3_000_000)).unwrap(), 3_000_000);
                let file = File::open(&path).unwrap();
                let mut all = vec![0; 4_000_000];
                assert_eq!(reader.receive(file.as_raw_fd(), &mut all).unwrap(), 3_000_000, "{}", reader.name);
                assert!(all[..3_000_000] == numbers(3_000_000));
            }
        });
        job.join().unwrap();
    });
}

#[test]
fn many_messages_at_once() {
    in_time(|| {
        let pair = pairs::unix("packets", libc::SOCK_SEQPACKET);
        let fd = pair.reads();
        let receive = move |flags: libc::c_int, wait: Option<Duration>| {
            let mut buffers = [[0_u8; 8]; 3];
            let mut lists = buffers
                .each_mut()
                .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
            // SAFETY: zeroes mean that there is nothing.
            let mut messages: [libc::mmsghdr; 3] = unsafe { std::mem::zeroed() };
            for (message, list) in messages.iter_mut().zip(&mut lists) {
                (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (list, 1);
            }
            let mut time = wait.map(|wait| libc::timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() });
            let time = time.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
            // SAFETY: three messages with a buffer each.
            let got = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), 3, flags, time) };
            told(got as isize)
                .map(|count| messages[..count].iter().map(|one| one.msg_len).collect::<Vec<_>>())
        };
        let pair = Rc::new(pair);
        let send = |lengths: &'static [usize]| {
            let pair = pair.clone();
            move || {
                for length in lengths {
                    put(&pair, &[1; 8][..*length]);
                    greenlet::yield_now();
                }
            }
        };
        assert_eq!(until(move || receive(0, None), send(&[1, 2, 3])).unwrap(), [1, 2, 3]);
        let first = until(move || receive(libc::MSG_WAITFORONE, None), send(&[4]));
        assert_eq!(first.unwrap(), [4]);
        let in_its_time = until(move || receive(0, Some(Duration::from_millis(30))), send(&[5, 6]));
        assert_eq!(in_its_time.unwrap(), [5, 6]);
    });
}

#[test]
fn sendfile_waits_until_all_is_taken() {
    const MUCH: usize = 4_000_000;
    in_time(|| {
        let library = greenserve_tests::c::load(
            r"
            #include <sys/sendfile.h>
            ssize_t plain(int to, int from, size_t n) { return sendfile(to, from, 0, n); }
            ssize_t large(int to, int from, size_t n) { off64_t at = 0; return sendfile64(to, from, &at, n); }
            ",
        );
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, numbers(MUCH)).unwrap();
        for name in ["plain", "large"] {
            // SAFETY: as written above.
            let call = unsafe { library.function::<extern "C" fn(RawFd, RawFd, usize) -> isize>(name) };
            for pair in [unix_stream(), tcp(), pipe()] {
                let file = File::open(&path).unwrap();
                let (fd, source) = (pair.writes(), pair.reader.try_clone().unwrap());
                let reader = Rc::new(Cell::new(None));
                let slot = reader.clone();
                let sent = until(
                    // More than there is: the file's end ends it.
                    move || told(call(fd, file.as_raw_fd(), MUCH + 1)),
                    move || slot.set(Some(collect(&source, MUCH))),
                );
                assert_eq!(sent.unwrap(), MUCH, "{name} to a {}", pair.kind);
                assert_eq!(blocking_flag(fd), 0, "put back");
                drop(pair);
                assert!(reader.take().unwrap().join().unwrap() == numbers(MUCH));
            }
        }
    });
}

fn blocking_flag(fd: RawFd) -> libc::c_int {
    // SAFETY: it takes numbers.
    unsafe { libc::fcntl(fd, libc::F_GETFL) & (libc::O_NONBLOCK | libc::O_APPEND) }
}

#[test]
fn splice_tee_and_vmsplice_wait_for_either_end() {
    in_time(|| {
        // From a socket that has nothing yet.
        let (socket, through) = (Rc::new(unix_stream()), pipe());
        let (near, far) = (socket.clone(), socket.clone());
        let to = through.writes();
        let moved = until(
            move || {
                let null = std::ptr::null_mut();
                // SAFETY: without offsets it takes numbers.
                told(unsafe { libc::splice(near.reads(), null, to, null, 100, 0) })
            },
            move || put(&far, b"spliced"),
        );
        assert_eq!(moved.unwrap(), 7);
        assert_eq!(blocking_flag(socket.reads()), 0, "put back");

        // From a pipe that has nothing yet.
        let (empty, other) = (Rc::new(pipe()), pipe());
        let (near, far) = (empty.clone(), empty.clone());
        let moved = until(
            // SAFETY: it takes numbers.
            move || told(unsafe { libc::tee(near.reads(), other.writes(), 100, 0) }),
            move || put(&far, b"teed"),
        );
        assert_eq!(moved.unwrap(), 4);

        // To a pipe that is full.
        let full = Rc::new(pipe());
        set_nonblocking(full.writes());
        let mut file = File::from(full.writer.try_clone().unwrap());
        while file.write(&[1; 4096]).is_ok() {}
        // SAFETY: these take numbers.
        unsafe {
            let flags = libc::fcntl(full.writes(), libc::F_GETFL);
            assert_eq!(libc::fcntl(full.writes(), libc::F_SETFL, flags & !libc::O_NONBLOCK), 0);
        }
        let (near, far) = (full.clone(), full.clone());
        let moved = until(
            move || {
                let text = b"gifts";
                let list = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
                // SAFETY: a list of one buffer, which is constant.
                told(unsafe { libc::vmsplice(near.writes(), &raw const list, 1, 0) })
            },
            move || {
                let mut file = File::from(far.reader.try_clone().unwrap());
                assert_eq!(file.read(&mut vec![0; 16_384]).unwrap(), 16_384);
            },
        );
        assert_eq!(moved.unwrap(), 5);
    });
}

#[test]
fn who_is_always_ready_gives_way() {
    in_time(|| {
        let pair = unix_stream();
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        let busy = greenlet::spawn(move || {
            let calls = Calls::load();
            let (send, receive) = (calls.get("call_send"), calls.get("call_recv"));
            (0..10_000).any(|_| {
                send.send(pair.writes(), &[1; 64]).unwrap();
                receive.receive(pair.reads(), &mut [0; 64]).unwrap();
                seen.get()
            })
        });
        greenlet::spawn(move || ran.set(true));
        assert!(busy.join().unwrap(), "nobody else ran");
    });
}

#[test]
fn a_thread_without_a_hub_may_be_on_the_other_side() {
    in_time(|| {
        let pair = tcp();
        // SAFETY: the number is that of an owned descriptor, which nobody uses after this.
        let mut far = unsafe { File::from_raw_fd(libc::dup(pair.writes())) };
        let echo = thread::spawn(move || {
            let mut buffer = [0; 16];
            for _ in 0..100 {
                far.read_exact(&mut buffer).unwrap();
                far.write_all(&buffer).unwrap();
            }
        });
        let client = greenlet::spawn(move || {
            let mut near = File::from(pair.reader);
            let mut buffer = [7; 16];
            for _ in 0..100 {
                near.write_all(&buffer).unwrap();
                near.read_exact(&mut buffer).unwrap();
            }
        });
        client.join().unwrap();
        echo.join().unwrap();
    });
}
