//! Locks on files: who holds the lock is another greenlet of the thread, or another process.

use std::ffi::{c_int, c_long};
use std::fs::{File, TryLockError};
use std::os::fd::AsRawFd;
use std::time::Duration;

use greenserve_tests::{PATIENCE, Scratch, c, eventually, in_process, in_time};

const LOCKS: &str = r#"
    #include <errno.h>
    #include <fcntl.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/file.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <unistd.h>

    int by_flock(int fd, long command) { errno = 0; return flock(fd, command) ? errno : 0; }
    int by_lockf(int fd, long command) { errno = 0; return lockf(fd, command, 0) ? errno : 0; }
    int by_lockf64(int fd, long command) { errno = 0; return lockf64(fd, command, 0) ? errno : 0; }

    /* A process that locks the file in the way of POSIX, and holds it until it is told something. */
    int holder(int fd, long to_it) {
        int ready[2]; if (pipe(ready)) return -1;
        pid_t child = fork();
        if (!child) {
            char byte = 0; if (lockf(fd, F_LOCK, 0)) _exit(1);
            syscall(SYS_write, ready[1], &byte, 1);
            _exit(syscall(SYS_read, (int)to_it, &byte, 1) != 1);
        }
        char byte; close(ready[1]); syscall(SYS_read, ready[0], &byte, 1); close(ready[0]);
        return child;
    }
    static int whole(int fd, int type, int command) {
        struct flock l = { .l_type = type, .l_whence = SEEK_SET };
        errno = 0; return fcntl(fd, command, &l) ? errno : 0;
    }
    int by_fcntl(int fd, long unused) { return whole(fd, F_WRLCK, F_SETLKW); }
    int by_fcntl_of_the_file(int fd, long type) { return whole(fd, type, F_OFD_SETLKW); }
    static int part(int fd, int from) {
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = 10 };
        return syscall(SYS_fcntl, fd, F_SETLKW, &l);
    }
    /* A process that has the second part of the file and waits for the first. */
    int crosses(int fd, long unused) {
        pid_t child = fork();
        if (!child) _exit(part(fd, 10) || part(fd, 0));
        return child;
    }
    int by_lockf_of_ten(int fd, long from) { lseek(fd, from, SEEK_SET); errno = 0; return lockf(fd, F_LOCK, 10) ? errno : 0; }
    int frees_ten(int fd, long from) { lseek(fd, from, SEEK_SET); return lockf(fd, F_ULOCK, 10); }
"#;

type Lock = extern "C" fn(c_int, c_long) -> c_int;

fn function(library: &c::Library, name: &str) -> Lock {
    // SAFETY: all that are asked for are such functions.
    unsafe { library.function(name) }
}

#[test]
fn a_greenlet_waits_for_the_lock_that_another_one_holds() {
    in_time(|| {
        let library = c::load(LOCKS);
        let flock = function(&library, "by_flock");
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let [first, second] = [(); 2].map(|()| File::create(&path).unwrap());
        let fds = (first.as_raw_fd(), second.as_raw_fd());
        assert_eq!(flock(fds.0, libc::LOCK_EX.into()), 0);
        assert_eq!(flock(fds.1, (libc::LOCK_EX | libc::LOCK_NB).into()), libc::EWOULDBLOCK);
        let waits = greenlet::spawn(move || flock(fds.1, libc::LOCK_SH.into()));
        let frees = greenlet::spawn(move || flock(fds.0, libc::LOCK_UN.into()));
        assert_eq!((frees.join().unwrap(), waits.join().unwrap()), (0, 0));
        // it has it now
        assert_eq!(flock(fds.0, (libc::LOCK_EX | libc::LOCK_NB).into()), libc::EWOULDBLOCK);
        let bad = greenlet::spawn(move || (flock(-1, libc::LOCK_EX.into()), flock(fds.0, 77)));
        assert_eq!(bad.join().unwrap(), (libc::EBADF, libc::EINVAL));
        // a thread without a hub waits as ever
        let plainly = std::thread::spawn(move || flock(fds.0, libc::LOCK_EX.into()));
        assert_eq!(flock(fds.1, libc::LOCK_UN.into()), 0);
        assert_eq!(plainly.join().unwrap(), 0);
    });
}

#[test]
fn a_lock_of_std_is_waited_for_by_the_greenlet() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        for lock in [File::lock, File::lock_shared] {
            let [held, wanted] = [(); 2].map(|()| File::create(&path).unwrap());
            held.lock().unwrap();
            assert!(matches!(wanted.try_lock(), Err(TryLockError::WouldBlock)));
            let waits = greenlet::spawn(move || lock(&wanted).map(|()| wanted).unwrap());
            let frees = greenlet::spawn(move || held.unlock().map(|()| held).unwrap());
            let (held, wanted) = (frees.join().unwrap(), waits.join().unwrap());
            assert!(matches!(held.try_lock(), Err(TryLockError::WouldBlock)), "it has it now");
            wanted.unlock().unwrap();
            held.try_lock().unwrap();
        }
    });
}

#[test]
fn a_lock_is_free_when_its_file_is_closed_by_another_greenlet() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let [first, second] = [(); 2].map(|()| File::create(&path).unwrap());
        // SAFETY: a number only.
        assert_eq!(unsafe { libc::flock(first.as_raw_fd(), libc::LOCK_EX) }, 0);
        let waits = greenlet::spawn(move || {
            // SAFETY: a number only.
            let result = unsafe { libc::flock(second.as_raw_fd(), libc::LOCK_EX) };
            (result, second)
        });
        greenlet::spawn(move || drop(first)).join().unwrap();
        assert_eq!(waits.join().unwrap().0, 0);
    });
}

#[test]
fn a_greenlet_waits_for_the_lock_of_an_open_file() {
    in_time(|| {
        let lock = function(&c::load(LOCKS), "by_fcntl_of_the_file");
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let [first, second] = [(); 2].map(|()| File::create(&path).unwrap());
        let fds = (first.as_raw_fd(), second.as_raw_fd());
        assert_eq!(lock(fds.0, libc::F_WRLCK.into()), 0);
        let waits = greenlet::spawn(move || lock(fds.1, libc::F_WRLCK.into()));
        let frees = greenlet::spawn(move || lock(fds.0, libc::F_UNLCK.into()));
        assert_eq!((frees.join().unwrap(), waits.join().unwrap()), (0, 0));
        assert_eq!(greenlet::spawn(move || lock(-1, libc::F_WRLCK.into())).join().unwrap(), libc::EBADF);
    });
}

#[test]
fn a_greenlet_waits_for_the_lock_of_another_process() {
    in_process("file_locks::a_greenlet_waits_for_the_lock_of_another_process", || {
        let library = c::load(LOCKS);
        for name in ["by_lockf", "by_lockf64", "by_fcntl"] {
            let lockf = function(&library, name);
            let scratch = Scratch::new();
            let file = File::create(scratch.path().join("lock")).unwrap();
            let fd = file.as_raw_fd();
            let (read, write) = std::io::pipe().unwrap();
            let child = function(&library, "holder")(fd, read.as_raw_fd().into());
            assert!(child > 0);
            if name != "by_fcntl" {
                assert_eq!(lockf(fd, libc::F_TLOCK.into()), libc::EAGAIN);
            }
            let waits = greenlet::spawn(move || lockf(fd, libc::F_LOCK.into()));
            greenlet::spawn(move || {
                // SAFETY: the byte is valid.
                assert_eq!(unsafe { libc::write(write.as_raw_fd(), c"x".as_ptr().cast(), 1) }, 1);
            })
            .join()
            .unwrap();
            assert_eq!(waits.join().unwrap(), 0, "{name}");
            // SAFETY: the status may be null.
            assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        }
    });
}

#[test]
fn a_timeout_ends_the_wait_without_the_lock() {
    in_time(|| {
        let library = c::load(LOCKS);
        let flock = function(&library, "by_flock");
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let [first, second, third] = [(); 3].map(|()| File::create(&path).unwrap());
        assert_eq!(flock(first.as_raw_fd(), libc::LOCK_EX.into()), 0);
        let (fd, held) = (second.as_raw_fd(), first.as_raw_fd());
        let errno = greenlet::spawn(move || {
            let mut errno = 0;
            let _ = greenlet::timeout(Duration::from_millis(5), || {
                errno = flock(fd, libc::LOCK_EX.into());
                greenlet::yield_now()
            });
            errno
        });
        assert_eq!(errno.join().unwrap(), libc::ECANCELED);
        assert_eq!(flock(held, libc::LOCK_UN.into()), 0);
        assert_eq!(flock(third.as_raw_fd(), (libc::LOCK_EX | libc::LOCK_NB).into()), 0, "nobody took it");
    });
}

#[test]
fn a_deadlock_between_processes_is_told() {
    in_process("file_locks::a_deadlock_between_processes_is_told", || {
        let library = c::load(LOCKS);
        let scratch = Scratch::new();
        let file = File::create(scratch.path().join("lock")).unwrap();
        let fd = file.as_raw_fd();
        let lock = function(&library, "by_lockf_of_ten");
        assert_eq!(lock(fd, 0), 0);
        let child = function(&library, "crosses")(fd, 0);
        let waits = format!(" {child} ");
        let blocked = |line: &str| line.contains("->") && line.contains(&waits);
        eventually(PATIENCE, || std::fs::read_to_string("/proc/locks").unwrap().lines().any(blocked));
        assert_eq!(greenlet::spawn(move || lock(fd, 10)).join().unwrap(), libc::EDEADLK);
        assert_eq!(function(&library, "frees_ten")(fd, 0), 0);
        let mut status = -1;
        // SAFETY: the pointer is valid.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    });
}
