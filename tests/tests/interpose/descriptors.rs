//! Numbers that end while somebody waits for them.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::rc::Rc;

use greenserve_tests::{c, in_time};

use crate::c_calls::told;
use crate::pairs::{Pair, owned, pipe, tcp, unix_stream};

const LIBRARY: &str = r"
    #include <fcntl.h>
    #include <unistd.h>
    int by_close(int fd, int other) { return close(fd); }
    int by_close_range(int fd, int other) { return close_range(fd, fd, 0); }
    int by_dup2(int fd, int other) { return dup2(other, fd); }
    int by_dup3(int fd, int other) { return dup3(other, fd, O_CLOEXEC); }
    int flags(int fd) { return fcntl(fd, F_GETFL); }
    int flags64(int fd) { return fcntl64(fd, F_GETFL); }
    int set_flags(int fd, int flags) { return fcntl(fd, F_SETFL, flags); }
    int owner(int fd, int owner) { return fcntl(fd, F_SETOWN, owner) ? -1 : fcntl(fd, F_GETOWN); }
    int to(int fd, int least) { return fcntl(fd, F_DUPFD_CLOEXEC, least); }
";

fn read(fd: RawFd) -> io::Result<usize> {
    let mut buffer = [0_u8; 8];
    // SAFETY: the buffer has as much room.
    told(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

#[test]
fn who_waits_for_a_number_that_ends_hears_ebadf() {
    in_time(|| {
        let library = c::load(LIBRARY);
        for name in ["by_close", "by_close_range", "by_dup2", "by_dup3"] {
            // SAFETY: as written above.
            let end = unsafe { library.function::<extern "C" fn(RawFd, RawFd) -> RawFd>(name) };
            for pair in [pipe(), unix_stream(), tcp()] {
                let Pair { reader, writer, kind } = pair;
                let fd = reader.into_raw_fd();
                let waiting = greenlet::spawn(move || read(fd));
                let other = writer.as_raw_fd();
                let ended = greenlet::spawn(move || end(fd, other)).join().unwrap();
                let woken = waiting.join().unwrap();
                assert_eq!(woken.unwrap_err().raw_os_error(), Some(libc::EBADF), "{name} of a {kind}");
                if name.starts_with("by_dup") {
                    assert_eq!(ended, fd);
                    drop(owned(fd));
                } else {
                    assert_eq!(ended, 0);
                }
            }
        }
    });
}

#[test]
fn closefrom_tells_those_who_wait() {
    const HIGH: RawFd = 900;
    // It would close what other tests of this process use, so it has a process of its own.
    greenserve_tests::in_process("descriptors::closefrom_tells_those_who_wait", || {
        let pair = pipe();
        // SAFETY: these take numbers.
        let high = unsafe { libc::fcntl(pair.reads(), libc::F_DUPFD_CLOEXEC, HIGH) };
        assert!(high >= HIGH);
        let waiting = greenlet::spawn(move || read(high));
        // SAFETY: as above; nobody else has such high numbers here.
        greenlet::spawn(|| unsafe { closefrom(HIGH) }).join().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(read(high).unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

unsafe extern "C" {
    fn closefrom(first: libc::c_int);
}

#[test]
fn a_dup2_that_fails_ends_nothing() {
    in_time(|| {
        let pair = Rc::new(pipe());
        let (near, far) = (pair.clone(), pair.clone());
        let waiting = greenlet::spawn(move || read(near.reads()));
        let ended = greenlet::spawn(move || {
            // SAFETY: these take numbers.
            let results = unsafe { (libc::dup2(-1, far.reads()), libc::dup2(far.reads(), far.reads())) };
            crate::pairs::put(&far, b"here");
            results
        });
        assert_eq!(ended.join().unwrap(), (-1, pair.reads()));
        assert_eq!(waiting.join().unwrap().unwrap(), 4);
        // SAFETY: it takes numbers.
        assert_eq!(unsafe { libc::dup3(pair.reads(), pair.reads(), 0) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
    });
}

#[test]
fn a_number_may_stand_for_another_file_between_two_waits() {
    in_time(|| {
        let (one, other) = (pipe(), pipe());
        let fd = one.reads();
        let first = greenlet::spawn(move || read(fd));
        greenlet::yield_now();
        crate::pairs::put(&one, b"1");
        assert_eq!(first.join().unwrap().unwrap(), 1);
        // By the kernel alone, so that nobody is told.
        // SAFETY: it takes numbers; the pair owns them.
        let made = unsafe { libc::syscall(libc::SYS_dup3, other.reads(), fd, 0) };
        assert_eq!(made as RawFd, fd);
        let second = greenlet::spawn(move || read(fd));
        greenlet::yield_now();
        crate::pairs::put(&other, b"22");
        assert_eq!(second.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn fcntl_is_libcs() {
    in_time(|| {
        let library = c::load(LIBRARY);
        // SAFETY: as written above.
        let (flags, flags64, set_flags, owner, to) = unsafe {
            (
                library.function::<extern "C" fn(RawFd) -> i32>("flags"),
                library.function::<extern "C" fn(RawFd) -> i32>("flags64"),
                library.function::<extern "C" fn(RawFd, i32) -> i32>("set_flags"),
                library.function::<extern "C" fn(RawFd, i32) -> i32>("owner"),
                library.function::<extern "C" fn(RawFd, RawFd) -> RawFd>("to"),
            )
        };
        let job = move || {
            let pair = unix_stream();
            assert_eq!(flags(pair.reads()), libc::O_RDWR);
            assert_eq!(set_flags(pair.reads(), libc::O_NONBLOCK), 0);
            assert_eq!(flags64(pair.reads()), libc::O_RDWR | libc::O_NONBLOCK);
            // SAFETY: it takes nothing.
            let group = unsafe { libc::getpgrp() };
            assert_eq!(owner(pair.reads(), -group), -group, "a group of processes");
            assert!(owned(to(pair.reads(), 300)).as_raw_fd() >= 300);
            assert_eq!(flags(-1), -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
        };
        job();
        greenlet::spawn(job).join().unwrap();
    });
}

#[test]
fn ioctl_sets_the_mode_that_calls_go_by() {
    in_time(|| {
        let pair = pipe();
        let job = greenlet::spawn(move || {
            let on: libc::c_int = 1;
            // SAFETY: it reads a number.
            assert_eq!(unsafe { libc::ioctl(pair.reads(), libc::FIONBIO, &raw const on) }, 0);
            read(pair.reads())
        });
        assert_eq!(job.join().unwrap().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_close_that_lingers_lets_others_run() {
    in_time(|| {
        let pair = tcp();
        let linger = libc::linger { l_onoff: 1, l_linger: 20 };
        let length = size_of_val(&linger) as libc::socklen_t;
        // SAFETY: it reads a structure.
        let set = unsafe {
            libc::setsockopt(
                pair.writes(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                length,
            )
        };
        assert_eq!(set, 0);
        let Pair { reader, writer, .. } = pair;
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        let closing = greenlet::spawn(move || {
            crate::pairs::set_nonblocking(writer.as_raw_fd());
            loop {
                let bytes = [1_u8; 65_536];
                // SAFETY: the buffer has as many bytes.
                match told(unsafe { libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) }) {
                    Ok(more) => count.set(count.get() + more),
                    Err(_) => break,
                }
            }
            // SAFETY: these take numbers.
            unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_RDWR) };
            drop(writer);
        });
        let reading = greenlet::spawn(move || {
            let (mut all, mut buffer) = (0, vec![0_u8; 65_536]);
            loop {
                // SAFETY: the buffer has as much room.
                let got = unsafe { libc::read(reader.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                match told(got).unwrap() {
                    0 => return all,
                    count => all += count,
                }
            }
        });
        closing.join().unwrap();
        assert_eq!(reading.join().unwrap(), sent.get());
    });
}

/// Has a socket's last read waited and taken all there was.
fn drain(pair: &Rc<Pair>) {
    let (near, far) = (pair.clone(), pair.clone());
    let reading = greenlet::spawn(move || read(near.reads()));
    greenlet::spawn(move || crate::pairs::put(&far, b"123")).join().unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), 3);
}

#[test]
fn a_read_that_seems_to_have_to_wait_finds_what_has_come_meanwhile() {
    in_time(|| {
        for pair in [unix_stream(), tcp()] {
            let pair = Rc::new(pair);
            drain(&pair);
            crate::pairs::put(&pair, b"4567");
            let near = pair.clone();
            assert_eq!(greenlet::spawn(move || read(near.reads())).join().unwrap().unwrap(), 4);
            drain(&pair);
            crate::pairs::set_nonblocking(pair.reads());
            let near = pair.clone();
            let nothing = greenlet::spawn(move || read(near.reads())).join().unwrap();
            assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            crate::pairs::put(&pair, b"89");
            let near = pair.clone();
            assert_eq!(greenlet::spawn(move || read(near.reads())).join().unwrap().unwrap(), 2);
        }
    });
}

#[test]
fn a_read_of_a_number_that_was_a_sockets_is_right_whatever_it_is_now() {
    in_time(|| {
        let scratch = greenserve_tests::Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, b"of a file").unwrap();
        let (empty, full) = (pipe(), pipe());
        crate::pairs::put(&full, b"of");
        let file = std::fs::File::open(&path).unwrap();
        let expected = [
            (file.as_raw_fd(), Ok(8)),
            (full.reads(), Ok(2)),
            (full.writes(), Err(libc::EBADF)),
            (empty.reads(), Ok(1)),
        ];
        for (now, expected) in expected {
            let pair = Rc::new(tcp());
            drain(&pair);
            let fd = pair.reads();
            // By the kernel alone, so that nobody is told.
            // SAFETY: it takes numbers; the pair owns them.
            assert_eq!(unsafe { libc::syscall(libc::SYS_dup3, now, fd, 0) } as RawFd, fd);
            let reading = greenlet::spawn(move || read(fd));
            greenlet::yield_now();
            if now == empty.reads() {
                crate::pairs::put(&empty, b"!");
            }
            let got = reading.join().unwrap().map_err(|error| error.raw_os_error().unwrap());
            assert_eq!(got, expected);
        }
    });
}

#[test]
fn what_the_child_of_a_vfork_closes_stays_open_for_those_who_wait() {
    in_time(|| {
        let library = c::load(
            r"
            #include <fcntl.h>
            #include <sys/wait.h>
            #include <unistd.h>
            static int ended(pid_t child) {
                int status; return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
            }
            int closes(int fd, int other) {
                pid_t child = vfork();
                if (!child) _exit(close(fd) == 0 && fcntl(fd, F_GETFD) == -1 ? 5 : 6);
                return ended(child);
            }
            int replaces(int fd, int other) {
                pid_t child = vfork();
                if (!child) _exit(dup2(other, fd) == fd ? 5 : 6);
                return ended(child);
            }
            ",
        );
        for name in ["closes", "replaces"] {
            // SAFETY: as written above.
            let in_child = unsafe { library.function::<extern "C" fn(RawFd, RawFd) -> libc::c_int>(name) };
            for pair in [pipe(), unix_stream(), tcp()] {
                let (fd, other, kind) = (pair.reads(), pair.writer.as_raw_fd(), pair.kind);
                // To close it would take a thread of the pool, which has the parent's descriptors.
                let linger = libc::linger { l_onoff: 1, l_linger: 1 };
                let size = size_of_val(&linger) as libc::socklen_t;
                // SAFETY: the option is valid for as long as the call; a pipe has none.
                unsafe {
                    libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
                };
                let waiting = greenlet::spawn(move || read(fd));
                assert_eq!(
                    greenlet::spawn(move || in_child(fd, other)).join().unwrap(),
                    5,
                    "{name} of a {kind}"
                );
                crate::pairs::put(&pair, b"here");
                assert_eq!(waiting.join().unwrap().unwrap(), 4, "{name} of a {kind}");
            }
        }
    });
}
