//! poll, select and epoll.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_long, c_short};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use greenserve_tests::{PATIENCE, Scratch, c};
use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, fd_set, timeval};

use crate::meanwhile;

/// The calls, as C code makes them. Errors come as `-errno`. Each `wait_*` waits for one descriptor for reading, by the call of
/// that name, and the fortified ones by what the headers make of it.
struct Calls {
    poll: extern "C" fn(*mut libc::pollfd, c_long, c_int) -> c_int,
    select: Select,
    wait: [(&'static str, extern "C" fn(c_int, c_int) -> c_int); 9],
    epoll: extern "C" fn(c_int, c_int) -> c_int,
    epoll_wait: extern "C" fn(c_int, c_int) -> c_int,
    masked: [(&'static str, extern "C" fn(c_int) -> c_int); 3],
}

type Select = extern "C" fn(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *mut timeval) -> c_int;

const SOURCE: &str = r"
    #include <errno.h>
    #include <poll.h>
    #include <pthread.h>
    #include <signal.h>
    #include <string.h>
    #include <stdlib.h>
    #include <sys/epoll.h>
    #include <sys/select.h>
    #include <unistd.h>
    static int result(int r) { return r < 0 ? -errno : r; }
    static struct timespec ms(int n) { struct timespec t = { n / 1000, n % 1000 * 1000000L }; return t; }
    /* The arrays' sizes are known and the counts are not, which is what the headers' checks are for. */
    volatile nfds_t one = 1;
    int c_poll(struct pollfd *fds, long n, int timeout) { return result(poll(fds, n, timeout)); }
    int c_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) { return result(select(n, r, w, e, t)); }
    int wait_poll(int fd, int timeout) {
        struct pollfd *p = malloc(one * sizeof *p);
        p->fd = fd, p->events = POLLIN;
        int r = result(poll(p, one, timeout));
        if (r == 1 && p->revents != POLLIN) r = 100 + p->revents;
        free(p);
        return r;
    }
    int wait_poll_chk(int fd, int timeout) {
        struct pollfd p[2] = { { fd, POLLIN, 0 } };
        return result(poll(p, one, timeout));
    }
    int wait_ppoll_chk(int fd, int timeout) {
        struct pollfd p[2] = { { fd, POLLIN, 0 } };
        struct timespec t = ms(timeout);
        return result(ppoll(p, one, timeout < 0 ? 0 : &t, 0));
    }
    int __poll(struct pollfd *, nfds_t, int);
    int __select(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    int wait___poll(int fd, int timeout) {
        struct pollfd p = { fd, POLLIN, 0 };
        return result(__poll(&p, 1, timeout));
    }
    static int by_select(int fd, int timeout, int (*f)(int, fd_set *, fd_set *, fd_set *, struct timeval *)) {
        fd_set set;
        struct timeval t = { timeout / 1000, timeout % 1000 * 1000 };
        FD_ZERO(&set);
        FD_SET(fd, &set);
        int r = result(f(fd + 1, &set, 0, 0, timeout < 0 ? 0 : &t));
        return r == 1 && !FD_ISSET(fd, &set) ? 99 : r;
    }
    int wait_select(int fd, int timeout) { return by_select(fd, timeout, select); }
    int wait___select(int fd, int timeout) { return by_select(fd, timeout, __select); }
    int wait_pselect(int fd, int timeout) {
        fd_set set;
        struct timespec t = ms(timeout);
        FD_ZERO(&set);
        FD_SET(fd, &set);
        int r = result(pselect(fd + 1, &set, 0, 0, timeout < 0 ? 0 : &t, 0));
        return r == 1 && !FD_ISSET(fd, &set) ? 99 : r;
    }
    int c_epoll(int fd, int flags) {
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event e = { EPOLLIN | flags, { .fd = fd } };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) { int r = -errno; close(epoll); return r; }
        return epoll;
    }
    int wait_epoll_wait(int fd, int timeout) {
        struct epoll_event e[4];
        int epoll = c_epoll(fd, 0);
        if (epoll < 0) return epoll;
        int r = result(epoll_wait(epoll, e, 4, timeout));
        close(epoll);
        return r == 1 && e[0].data.fd != fd ? 99 : r;
    }
    int wait_epoll_pwait(int fd, int timeout) {
        struct epoll_event e[4];
        int epoll = c_epoll(fd, 0);
        if (epoll < 0) return epoll;
        int r = result(epoll_pwait(epoll, e, 4, timeout, 0));
        close(epoll);
        return r == 1 && e[0].data.fd != fd ? 99 : r;
    }
    int c_epoll_wait(int epoll, int timeout) {
        struct epoll_event e[1];
        int r = result(epoll_wait(epoll, e, 1, timeout));
        return r == 1 ? e[0].data.fd : r;
    }
    /* SIGUSR1 is held back, and let through while it is waited. */
    static int held(sigset_t *through) {
        sigset_t usr1;
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        int r = pthread_sigmask(SIG_BLOCK, &usr1, through);
        sigdelset(through, SIGUSR1);
        return r;
    }
    int masked_ppoll(int fd) {
        sigset_t through;
        struct pollfd p = { fd, POLLIN, 0 };
        held(&through);
        return result(ppoll(&p, 1, 0, &through));
    }
    int masked_pselect(int fd) {
        sigset_t through;
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        held(&through);
        return result(pselect(fd + 1, &set, 0, 0, 0, &through));
    }
    int masked_epoll_pwait(int fd) {
        sigset_t through;
        struct epoll_event e[4];
        int epoll = c_epoll(fd, 0);
        held(&through);
        int r = result(epoll_pwait(epoll, e, 4, -1, &through));
        close(epoll);
        return r;
    }
";

static C: LazyLock<Calls> = LazyLock::new(|| {
    let library = c::load(SOURCE);
    // SAFETY: as written above.
    let wait = |name: &'static str| unsafe { (name, library.function(&format!("wait_{name}"))) };
    let names = [
        "poll",
        "poll_chk",
        "ppoll_chk",
        "__poll",
        "select",
        "__select",
        "pselect",
        "epoll_wait",
        "epoll_pwait",
    ];
    // SAFETY: as written above.
    unsafe {
        Calls {
            poll: library.function("c_poll"),
            select: library.function("c_select"),
            wait: names.map(wait),
            epoll: library.function("c_epoll"),
            epoll_wait: library.function("c_epoll_wait"),
            masked: ["ppoll", "pselect", "epoll_pwait"]
                .map(|name| (name, library.function(&format!("masked_{name}")))),
        }
    }
});

/// As the one of all tests. The code is compiled and loaded before, and not in a greenlet.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    LazyLock::force(&C);
    greenserve_tests::in_time(f)
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().unwrap()
}

fn entry(fd: RawFd, events: c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0x7777 }
}

/// poll(2) as C makes it, and what it said of each.
fn poll(fds: &[(RawFd, c_short)], timeout: c_int) -> (c_int, Vec<c_short>) {
    let mut entries: Vec<_> = fds.iter().map(|(fd, events)| entry(*fd, *events)).collect();
    let result = (C.poll)(entries.as_mut_ptr(), entries.len() as c_long, timeout);
    (result, entries.iter().map(|entry| entry.revents).collect())
}

/// Runs `job` in a greenlet, and on a thread without a hub.
fn both(job: fn()) {
    in_time(move || {
        greenlet::spawn(job).join().unwrap();
        std::thread::spawn(job).join().unwrap();
    });
}

/// Runs `waits` in a greenlet, and `ends` in another when it waits.
fn ended_by<T: 'static>(ends: impl FnOnce() + 'static, waits: impl FnOnce() -> T + 'static) -> T {
    let waiting = greenlet::spawn(waits);
    greenlet::spawn(ends);
    waiting.join().unwrap()
}

#[test]
fn each_call_parks_the_greenlet_until_another_writes() {
    for (name, wait) in C.wait {
        in_time(move || {
            let (mut reader, mut writer) = pipe();
            let fd = reader.as_raw_fd();
            for timeout in [-1, 3_600_000] {
                let (sent, write) = (vec![1], writer.try_clone().unwrap());
                let result = ended_by(move || (&write).write_all(&sent).unwrap(), move || wait(fd, timeout));
                assert_eq!(result, 1, "{name}");
                assert_eq!(wait(fd, timeout), 1, "{name} of main");
                reader.read_exact(&mut [0]).unwrap();
            }
            // Without a hub.
            writer.write_all(b"x").unwrap();
            assert_eq!(std::thread::spawn(move || wait(fd, -1)).join().unwrap(), 1, "{name}");
        });
    }
}

#[test]
fn each_call_parks_the_greenlet_until_its_timeout() {
    for (name, wait) in C.wait {
        in_time(move || {
            let (reader, _writer) = pipe();
            let fd = reader.as_raw_fd();
            let begin = Instant::now();
            meanwhile(move || assert_eq!(wait(fd, 20), 0, "{name}"));
            assert!(begin.elapsed() >= Duration::from_millis(20), "{name}");
            assert_eq!(wait(fd, 0), 0, "{name}");
            assert_eq!(std::thread::spawn(move || wait(fd, 1)).join().unwrap(), 0, "{name}");
        });
    }
}

#[test]
fn a_kill_is_told_once() {
    for (name, wait) in C.wait {
        in_time(move || {
            let (reader, writer) = pipe();
            let (fd, results) = (reader.as_raw_fd(), Rc::new(RefCell::new(Vec::new())));
            let seen = results.clone();
            let waiting = greenlet::spawn(move || {
                let first = wait(fd, -1);
                seen.borrow_mut().push(first);
                let second = wait(fd, 10);
                seen.borrow_mut().push(second);
            });
            greenlet::yield_now();
            waiting.kill().unwrap();
            // Event loops take no other error for one that passes.
            let told = if name.starts_with("epoll") { libc::EINTR } else { libc::ECANCELED };
            assert_eq!(*results.borrow(), [-told, 0], "{name}");
            drop(writer);
        });
    }
}

#[test]
fn the_end_of_a_timeout_is_told() {
    in_time(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        let waiting = greenlet::spawn(move || {
            let mut result = None;
            let _ = greenlet::timeout(Duration::from_millis(10), || result = Some((C.wait[0].1)(fd, -1)));
            result
        });
        assert_eq!(waiting.join().unwrap(), Some(-libc::ECANCELED));
    });
}

#[test]
fn the_headers_checks_are_what_c_code_calls() {
    for name in ["__poll_chk", "__ppoll_chk"] {
        assert!(undefined().iter().any(|undefined| undefined == name), "{name}");
    }
}

/// What the C code takes from elsewhere.
fn undefined() -> Vec<String> {
    let scratch = Scratch::new();
    let (code, object) = (scratch.path().join("code.c"), scratch.path().join("code.o"));
    std::fs::write(&code, format!("#define _GNU_SOURCE\n{SOURCE}")).unwrap();
    let compiler =
        Command::new("cc").args(["-c", "-O2", "-D_FORTIFY_SOURCE=2", "-o"]).args([&object, &code]).status();
    assert!(compiler.unwrap().success());
    let names = Command::new("nm").arg("--undefined-only").arg(&object).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn an_array_that_is_too_small_ends_the_program() {
    unsafe extern "C" {
        fn __poll_chk(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int, bytes: usize) -> c_int;
    }
    const ROLE: &str = "TEST_TOO_SMALL";
    if std::env::var_os(ROLE).is_some() {
        let mut fds = [entry(-1, 0)];
        // SAFETY: it says that the array is too small, and looks at nothing of it.
        let job = move || unsafe { __poll_chk(fds.as_mut_ptr(), 2, 0, size_of_val(&fds)) };
        greenlet::spawn(job).join().unwrap();
        return;
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["waiting::an_array_that_is_too_small_ends_the_program", "--exact", "--nocapture"])
        .env(ROLE, "")
        .output()
        .unwrap();
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("buffer overflow detected"), "{said}");
}

#[test]
fn poll_says_what_the_kernel_says() {
    both(|| {
        let (reader, writer) = pipe();
        let (read, write) = (reader.as_raw_fd(), writer.as_raw_fd());
        let file = File::open("/proc/self/exe").unwrap();
        // A negative one is passed over, one that is none is an event, a file is always ready.
        let all =
            [(-1, POLLIN), (read, POLLIN), (write, POLLOUT), (1 << 20, POLLIN), (file.as_raw_fd(), POLLIN)];
        assert_eq!(poll(&all, -1), (3, vec![0, 0, POLLOUT, POLLNVAL, POLLIN]));
        drop(writer);
        assert_eq!(poll(&[(read, POLLIN)], -1), (1, vec![POLLHUP]));
        assert_eq!(poll(&[(read, 0)], -1), (1, vec![POLLHUP]));
        let (reader, writer) = pipe();
        drop(reader);
        assert_eq!(poll(&[(writer.as_raw_fd(), POLLOUT)], -1), (1, vec![POLLOUT | POLLERR]));
        // What is never there.
        assert_eq!(poll(&[(file.as_raw_fd(), POLLPRI)], 10), (0, vec![0]));
        assert_eq!(poll(&[], 5), (0, vec![]));
        assert_eq!(poll(&[(-7, POLLIN), (-8, POLLIN)], 5), (0, vec![0, 0]));
        assert_eq!((C.poll)(std::ptr::null_mut(), 3, 0), -libc::EFAULT);
        assert_eq!((C.poll)(std::ptr::null_mut(), u32::MAX.into(), 0), -libc::EINVAL);
        // As the kernel has it, which takes half of the number.
        assert_eq!((C.poll)(std::ptr::null_mut(), 1 << 40, 1), 0);
    });
}

#[test]
fn poll_of_nothing_is_a_sleep() {
    in_time(|| {
        let begin = Instant::now();
        meanwhile(|| assert_eq!(poll(&[], 20).0, 0));
        assert!(begin.elapsed() >= Duration::from_millis(20));
    });
}

#[test]
fn poll_of_several_hears_each_of_them() {
    in_time(|| {
        let pipes: Vec<_> = (0..6).map(|_| pipe()).collect();
        for index in 0..6 {
            let asked: Vec<_> = pipes.iter().map(|(reader, _)| (reader.as_raw_fd(), POLLIN)).collect();
            let writer = pipes[index].1.try_clone().unwrap();
            let (result, said) =
                ended_by(move || (&writer).write_all(b"x").unwrap(), move || poll(&asked, -1));
            let expected: Vec<_> = (0..6).map(|other| if other == index { POLLIN } else { 0 }).collect();
            assert_eq!((result, said), (1, expected));
            (&pipes[index].0).read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn poll_takes_a_descriptor_twice() {
    in_time(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let fd = one.as_raw_fd();
        while send_one(fd) {}
        let asked = [(fd, POLLIN), (fd, POLLOUT), (fd, POLLIN | POLLOUT)];
        let peer = other.try_clone().unwrap();
        let (result, said) = ended_by(move || (&peer).write_all(b"x").unwrap(), move || poll(&asked, -1));
        assert_eq!((result, said[0] & POLLIN, said[2] & POLLIN), (2, POLLIN, POLLIN));
        assert_eq!(said[1], 0);
    });
}

/// Fills what another has not read; false if there is no room.
fn send_one(fd: RawFd) -> bool {
    // SAFETY: a byte of our own.
    unsafe { libc::send(fd, [0u8; 4096].as_ptr().cast(), 4096, libc::MSG_DONTWAIT) > 0 }
}

#[test]
fn poll_waits_for_room_to_write() {
    in_time(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let fd = one.as_raw_fd();
        while send_one(fd) {}
        let drain = move || {
            other.set_nonblocking(true).unwrap();
            while other.read(&mut [0; 65536]).is_ok() {}
            std::mem::forget(other);
        };
        assert_eq!(ended_by(drain, move || poll(&[(fd, POLLOUT)], -1)), (1, vec![POLLOUT]));
    });
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn poll_hears_urgent_data_and_the_end_of_a_half() {
    in_time(|| {
        let (client, server) = connection();
        let (fd, sender) = (client.as_raw_fd(), server.as_raw_fd());
        // SAFETY: a byte of our own.
        let urgent = move || unsafe {
            assert_eq!(libc::send(sender, b"!".as_ptr().cast(), 1, libc::MSG_OOB), 1);
        };
        assert_eq!(ended_by(urgent, move || poll(&[(fd, POLLPRI)], -1)), (1, vec![POLLPRI]));
        let half = server.try_clone().unwrap();
        let end = move || half.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(ended_by(end, move || poll(&[(fd, POLLRDHUP)], -1)), (1, vec![POLLRDHUP]));
    });
}

#[test]
fn std_connects_with_a_timeout_park_the_greenlet() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // SAFETY: of our own descriptor, whose queue becomes a short one.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let moment = Duration::from_millis(200);
        let mut connected = Vec::new();
        let full = loop {
            match TcpStream::connect_timeout(&address, moment) {
                Ok(stream) => connected.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::TimedOut);
        meanwhile(move || {
            let error = TcpStream::connect_timeout(&address, moment).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        });
        // There is room when one is taken out.
        let queue = listener.try_clone().unwrap();
        let accept = move || connected.iter().for_each(|_| drop(queue.accept().unwrap()));
        ended_by(accept, move || TcpStream::connect_timeout(&address, PATIENCE).map(drop)).unwrap();
    });
}

#[test]
fn what_is_ready_and_was_not_asked_for_does_not_hold_the_hub() {
    in_time(|| {
        // Urgent data are waited for at a connection that has ended, as select alone can; and of a file, which never has any.
        let (client, server) = connection();
        drop(server);
        client.shutdown(std::net::Shutdown::Both).unwrap();
        let fd = client.as_raw_fd();
        assert_eq!(poll(&[(fd, POLLPRI)], -1).0, 1, "it has hung up");
        let file = File::open("/proc/self/exe").unwrap();
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        greenlet::spawn(move || {
            for _ in 0..5 {
                counter.set(counter.get() + 1);
                greenlet::sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(select([&[], &[], &[fd]], Some(&mut micros(50_000))), (0, Default::default()));
        assert!(turns.get() >= 1);
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        greenlet::spawn(move || counter.set(1));
        assert_eq!(poll(&[(file.as_raw_fd(), POLLPRI)], 50).0, 0);
        assert_eq!(turns.get(), 1);
    });
}

#[test]
fn a_descriptor_that_is_closed_meanwhile_is_none() {
    in_time(|| {
        let (reader, _writer) = pipe();
        let copy = high(reader.as_raw_fd());
        let fd = copy.as_raw_fd();
        let close = move || {
            greenlet::foreign::closing(fd);
            drop(copy);
        };
        assert_eq!(ended_by(close, move || poll(&[(fd, POLLIN)], -1)), (1, vec![POLLNVAL]));
    });
}

/// A copy of a descriptor with a number that no other test gets.
fn high(fd: RawFd) -> OwnedFd {
    static NEXT: AtomicI32 = AtomicI32::new(900);
    // SAFETY: the kernel makes a new one.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, NEXT.fetch_add(10, Ordering::Relaxed));
        assert!(copy >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(copy)
    }
}

/// select(2) as C makes it, and what is in the sets of reading, writing and exceptions then.
fn select(asked: [&[RawFd]; 3], timeout: Option<&mut timeval>) -> (c_int, [Vec<RawFd>; 3]) {
    // SAFETY: all zeroes is an empty set.
    let mut sets: [fd_set; 3] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    for (set, fds) in sets.iter_mut().zip(asked) {
        for fd in fds {
            assert!((*fd as usize) < libc::FD_SETSIZE, "descriptor {fd}");
            // SAFETY: it has room for that number.
            unsafe { libc::FD_SET(*fd, set) };
            count = count.max(fd + 1);
        }
    }
    let timeout = timeout.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let [read, write, except] = &mut sets;
    let result = (C.select)(count, read, write, except, timeout);
    // SAFETY: as above.
    let found =
        |set: &fd_set| (0..count).filter(|fd| unsafe { libc::FD_ISSET(*fd, set) }).collect::<Vec<_>>();
    (result, [found(read), found(write), found(except)])
}

fn micros(micros: i64) -> timeval {
    timeval { tv_sec: 0, tv_usec: micros }
}

#[test]
fn select_says_what_the_kernel_says() {
    both(|| {
        let (reader, writer) = pipe();
        let (read, write) = (reader.as_raw_fd(), writer.as_raw_fd());
        let file = File::open("/proc/self/exe").unwrap();
        let file = file.as_raw_fd();
        assert_eq!(
            select([&[read, file], &[write], &[read]], None),
            (2, [vec![file], vec![write], vec![]]),
            "a file is always ready"
        );
        let mut timeout = micros(5000);
        assert_eq!(select([&[read], &[], &[read]], Some(&mut timeout)), (0, Default::default()));
        assert_eq!((timeout.tv_sec, timeout.tv_usec), (0, 0), "nothing is left");
        assert_eq!(select([&[], &[], &[]], Some(&mut micros(5000))).0, 0);
        drop(writer);
        assert_eq!(select([&[read], &[], &[]], None).1, [vec![read], vec![], vec![]], "the end");
        let none = high(read).as_raw_fd();
        let refused = select([&[none], &[], &[]], None);
        assert_eq!(refused, (-libc::EBADF, [vec![none], vec![], vec![]]), "the sets stay as they were");
        for wrong in [timeval { tv_sec: -1, tv_usec: 0 }, micros(-1)] {
            assert_eq!(select([&[read], &[], &[]], Some(&mut { wrong })).0, -libc::EINVAL);
        }
        assert_eq!((C.select)(-1, NONE, NONE, NONE, &mut micros(0)), -libc::EINVAL);
        // As Linux has it.
        assert_eq!(select([&[read], &[], &[]], Some(&mut micros(3_000_000))).0, 1);
    });
}

const NONE: *mut fd_set = std::ptr::null_mut();

#[test]
fn select_leaves_what_is_beyond_its_count() {
    both(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        let mut words = [u64::MAX; 16];
        let count = fd / 64 * 64;
        words[..count as usize / 64].fill(0);
        assert_eq!((C.select)(count, words.as_mut_ptr().cast(), NONE, NONE, &mut micros(1000)), 0);
        assert!(words[count as usize / 64..].iter().all(|word| *word == u64::MAX), "{words:x?}");
    });
}

#[test]
fn select_may_be_told_of_more_descriptors_than_the_sets_have() {
    both(|| {
        // As programs do that call it with the greatest number which a descriptor could have.
        let (_reader, writer) = pipe();
        // SAFETY: it only asks.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: two pages, of which the second cannot be touched, and the first ends with the set.
        let set = unsafe {
            let pages = libc::mmap(
                std::ptr::null_mut(),
                2 * size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_eq!(libc::mprotect(pages.byte_add(size), size, libc::PROT_NONE), 0);
            pages.byte_add(size - TABLE / 8).cast::<fd_set>()
        };
        // SAFETY: the set has room for that number.
        unsafe { libc::FD_SET(writer.as_raw_fd(), set) };
        assert_eq!((C.select)(1 << 20, NONE, set, NONE, std::ptr::null_mut()), 1);
    });
}

/// More descriptors than the tests have; what Linux makes its table of them for.
const TABLE: usize = 8192;

#[test]
fn select_says_how_much_time_is_left() {
    in_time(|| {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let left = ended_by(
            move || writer.write_all(b"x").unwrap(),
            move || {
                let mut timeout = timeval { tv_sec: 3600, tv_usec: 0 };
                assert_eq!(select([&[fd], &[], &[]], Some(&mut timeout)).0, 1);
                timeout
            },
        );
        assert!((3500..3600).contains(&left.tv_sec), "{}", left.tv_sec);
    });
}

#[test]
fn select_hears_room_to_write_and_urgent_data() {
    in_time(|| {
        let (client, server) = connection();
        let (fd, sender) = (client.as_raw_fd(), server.as_raw_fd());
        // SAFETY: a byte of our own.
        let urgent = move || unsafe {
            assert_eq!(libc::send(sender, b"!".as_ptr().cast(), 1, libc::MSG_OOB), 1);
        };
        let found = ended_by(urgent, move || select([&[], &[], &[fd]], None));
        assert_eq!(found, (1, [vec![], vec![], vec![fd]]));
        while send_one(fd) {}
        let mut drain = server.try_clone().unwrap();
        let drain = move || {
            drain.set_nonblocking(true).unwrap();
            for _ in 0..1000 {
                let _ = drain.read(&mut [0; 65536]);
                greenlet::yield_now();
            }
        };
        assert_eq!(ended_by(drain, move || select([&[], &[fd], &[]], None)).0, 1);
    });
}

#[test]
fn a_signal_that_the_mask_lets_through_ends_the_wait() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: c_int) {
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
    let handler: extern "C" fn(c_int) = count;
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    for (name, masked) in C.masked {
        in_time(move || {
            let before = COUNT.load(Ordering::SeqCst);
            let (reader, writer) = pipe();
            let fd = reader.as_raw_fd();
            // SAFETY: of this thread.
            let raise = || unsafe { assert_eq!(libc::raise(libc::SIGUSR1), 0) };
            assert_eq!(ended_by(raise, move || masked(fd)), -libc::EINTR, "{name}");
            assert_eq!(COUNT.load(Ordering::SeqCst), before + 1, "{name}");
            // It is held back otherwise, and one that is there already is delivered as well.
            raise();
            assert_eq!(COUNT.load(Ordering::SeqCst), before + 1, "{name}");
            assert_eq!(greenlet::spawn(move || masked(fd)).join().unwrap(), -libc::EINTR, "{name}");
            assert_eq!(COUNT.load(Ordering::SeqCst), before + 2, "{name}");
            let write = move || (&writer).write_all(b"x").unwrap();
            assert_eq!(ended_by(write, move || masked(fd)), 1, "{name}");
        });
    }
}

fn epoll(fd: RawFd, flags: c_int) -> OwnedFd {
    let epoll = (C.epoll)(fd, flags);
    assert!(epoll >= 0, "{epoll}");
    // SAFETY: made for us.
    unsafe { OwnedFd::from_raw_fd(epoll) }
}

#[test]
fn several_greenlets_wait_at_one_epoll_descriptor() {
    in_time(|| {
        let (mut reader, mut writer) = pipe();
        let set = epoll(reader.as_raw_fd(), libc::EPOLLONESHOT);
        let (fd, number, found) = (set.as_raw_fd(), reader.as_raw_fd(), Rc::new(Cell::new(0)));
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let found = found.clone();
                greenlet::spawn(move || {
                    assert_eq!((C.epoll_wait)(fd, -1), number);
                    found.set(found.get() + 1);
                })
            })
            .collect();
        // Each event is for one of them.
        for round in 1..=5 {
            writer.write_all(b"x").unwrap();
            while found.get() < round {
                greenlet::yield_now();
            }
            for _ in 0..20 {
                greenlet::yield_now();
            }
            assert_eq!(found.get(), round);
            reader.read_exact(&mut [0]).unwrap();
            let mut again =
                libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLONESHOT) as u32, u64: number as u64 };
            // SAFETY: both are descriptors, and the event lives as long as the call.
            let result = unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_MOD, number, &mut again) };
            assert_eq!(result, 0);
        }
        greenlet::join_all(&waiting, None).unwrap();
    });
}

#[test]
fn an_edge_is_told_once() {
    in_time(|| {
        let (reader, mut writer) = pipe();
        let number = reader.as_raw_fd();
        let set = epoll(number, libc::EPOLLET);
        let fd = set.as_raw_fd();
        for _ in 0..3 {
            let write = writer.try_clone().unwrap();
            let found = ended_by(move || (&write).write_all(b"x").unwrap(), move || (C.epoll_wait)(fd, -1));
            assert_eq!(found, number);
            let waiting = greenlet::spawn(move || (C.epoll_wait)(fd, 20));
            assert_eq!(waiting.join().unwrap(), 0, "it is still readable, and that has been told");
        }
        writer.write_all(b"x").unwrap();
        assert_eq!((C.epoll_wait)(fd, -1), number);
    });
}

#[test]
fn exclusive_watchers_lose_no_event() {
    in_time(|| {
        let (mut reader, mut writer) = pipe();
        let number = reader.as_raw_fd();
        let sets: Vec<_> = (0..3).map(|_| epoll(number, libc::EPOLLEXCLUSIVE)).collect();
        let woken = Rc::new(Cell::new(0));
        for set in &sets {
            let (fd, woken) = (set.as_raw_fd(), woken.clone());
            greenlet::spawn(move || {
                while (C.epoll_wait)(fd, -1) == number {
                    woken.set(woken.get() + 1);
                    greenlet::yield_now();
                }
            });
        }
        greenlet::yield_now();
        for _ in 0..10 {
            let before = woken.get();
            writer.write_all(b"x").unwrap();
            while woken.get() == before {
                greenlet::yield_now();
            }
            reader.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn an_epoll_descriptor_in_another_is_heard() {
    in_time(|| {
        let (reader, mut writer) = pipe();
        let inner = epoll(reader.as_raw_fd(), 0);
        let outer = epoll(inner.as_raw_fd(), 0);
        let (fd, number) = (outer.as_raw_fd(), inner.as_raw_fd());
        let found = ended_by(move || writer.write_all(b"x").unwrap(), move || (C.epoll_wait)(fd, -1));
        assert_eq!(found, number);
    });
}

#[test]
fn a_nest_of_epolls_that_is_too_deep_for_the_hub_is_looked_at_from_time_to_time() {
    in_time(|| {
        let (reader, mut writer) = pipe();
        let mut nest = vec![epoll(reader.as_raw_fd(), 0)];
        // As deep as the kernel allows.
        loop {
            let set = (C.epoll)(nest.last().unwrap().as_raw_fd(), 0);
            if set < 0 {
                break;
            }
            // SAFETY: made for us.
            nest.push(unsafe { OwnedFd::from_raw_fd(set) });
        }
        let fd = nest.last().unwrap().as_raw_fd();
        let found = ended_by(move || writer.write_all(b"x").unwrap(), move || (C.epoll_wait)(fd, -1));
        assert_eq!(found, nest[nest.len() - 2].as_raw_fd());
    });
}

#[test]
fn what_is_no_epoll_descriptor_is_refused() {
    both(|| {
        let (reader, _writer) = pipe();
        assert_eq!((C.epoll_wait)(reader.as_raw_fd(), -1), -libc::EINVAL);
        assert_eq!((C.epoll_wait)(1 << 20, -1), -libc::EBADF);
    });
}

#[test]
fn epoll_pwait2_waits_to_the_nanosecond() {
    unsafe extern "C" {
        fn epoll_pwait2(
            epoll: c_int,
            events: *mut libc::epoll_event,
            count: c_int,
            timeout: *const libc::timespec,
            mask: *const libc::sigset_t,
        ) -> c_int;
    }
    let wait = |fd: RawFd, nanos: Option<i64>| {
        let timeout = nanos.map(|tv_nsec| libc::timespec { tv_sec: 0, tv_nsec });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for the one event; the timeout lives as long as the call.
        let result = unsafe { epoll_pwait2(fd, &mut event, 1, timeout, std::ptr::null()) };
        if result < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap() } else { result }
    };
    in_time(move || {
        let (reader, mut writer) = pipe();
        let set = epoll(reader.as_raw_fd(), 0);
        let fd = set.as_raw_fd();
        let there = wait(fd, Some(0)) != -libc::ENOSYS;
        if !there {
            println!("NOT CHECKED: this kernel has no epoll_pwait2");
            return;
        }
        meanwhile(move || assert_eq!(wait(fd, Some(20_000_000)), 0));
        assert_eq!(wait(fd, Some(-1)), -libc::EINVAL);
        let found = ended_by(move || writer.write_all(b"x").unwrap(), move || wait(fd, None));
        assert_eq!(found, 1);
        assert_eq!(std::thread::spawn(move || wait(fd, None)).join().unwrap(), 1);
    });
}

#[test]
fn where_blocking_is_asked_for_waits_are_plain() {
    in_time(|| {
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        let (reader, _writer) = pipe();
        let waiting = greenlet::spawn(move || {
            for (name, wait) in C.wait {
                assert_eq!(greenlet::may_block(|| wait(reader.as_raw_fd(), 5)), 0, "{name}");
            }
            seen.get()
        });
        greenlet::spawn(move || ran.set(true));
        assert!(!waiting.join().unwrap(), "somebody else ran meanwhile");
    });
}

/// Waits, by each call and a sleep, when it is dropped, and says whether that was as it should be.
struct Waits(Rc<Cell<Option<bool>>>, RawFd);

impl Drop for Waits {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(1));
        self.0.set(Some(C.wait.iter().all(|(_, wait)| wait(self.1, 1) == 0)));
    }
}

#[test]
fn waits_while_unwinding_are_plain() {
    in_time(|| {
        let (reader, _writer) = pipe();
        let (waited, ran) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)));
        let (waits, seen) = (Waits(waited.clone(), reader.as_raw_fd()), ran.clone());
        let panics = greenlet::spawn(move || {
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _waits = waits;
                panic!("as it is meant to");
            }));
            assert!(unwound.is_err());
            seen.get()
        });
        greenlet::spawn(move || ran.set(true));
        assert!(!panics.join().unwrap(), "somebody else ran meanwhile");
        assert_eq!(waited.get(), Some(true));
    });
}

#[test]
fn waits_at_a_threads_exit_are_plain() {
    thread_local! {
        static LAST: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) };
    }
    struct Tells(Option<Waits>, mpsc::Sender<Option<bool>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let waited = self.0.as_ref().unwrap().0.clone();
            self.0 = None;
            self.1.send(waited.get()).unwrap();
        }
    }
    in_time(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        // Made before the thread's hub is, and after it: destructors run in the opposite order.
        for before in [true, false] {
            let (told, hear) = mpsc::channel();
            let exits = std::thread::spawn(move || {
                let hub = || greenlet::spawn(|| ()).join().unwrap();
                let waits = || {
                    let waits = Waits(Rc::new(Cell::new(None)), fd);
                    LAST.with(|last| *last.borrow_mut() = Some(Box::new(Tells(Some(waits), told))));
                };
                if before {
                    waits();
                    hub();
                } else {
                    hub();
                    waits();
                }
            });
            exits.join().unwrap();
            assert_eq!(hear.recv().unwrap(), Some(true), "before the hub: {before}");
        }
    });
}

#[test]
fn waits_in_the_child_of_a_fork_are_plain() {
    in_time(|| {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        let parent = move || {
            // SAFETY: the child makes system calls only, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let right = C.wait.iter().all(|(_, wait)| wait(fd, 1) == 0);
                // SAFETY: it ends at once.
                unsafe { libc::_exit(if right { 7 } else { 8 }) };
            }
            let mut status = 0;
            // SAFETY: a child of our own, and room for the answer.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
        };
        greenlet::spawn(parent).join().unwrap();
    });
}

#[test]
fn who_looks_without_waiting_gives_way_now_and_then() {
    in_time(|| {
        let (reader, writer) = pipe();
        let fd = reader.as_raw_fd();
        greenlet::spawn(move || (&writer).write_all(b"x").unwrap());
        // A loop of polls without a timeout would otherwise never see it.
        while poll(&[(fd, POLLIN)], 0).0 == 0 {}
    });
}

#[test]
fn many_greenlets_wait_for_one_descriptor() {
    in_time(|| {
        let (reader, writer) = pipe();
        let fd = reader.as_raw_fd();
        let waiting: Vec<_> = (0..50)
            .map(|index| greenlet::spawn(move || assert_eq!(C.wait[index % C.wait.len()].1(fd, -1), 1)))
            .collect();
        greenlet::yield_now();
        (&writer).write_all(b"x").unwrap();
        greenlet::join_all(&waiting, PATIENCE).unwrap();
        drop(writer);
    });
}
