//! Standard input, and the opening of FIFOs.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use greenlet_interpose::settings::{self, Files};
use greenserve_tests::{Scratch, c, in_process, in_time, is_in_process, process_of};

const OPENS: &str = r#"
    #include <errno.h>
    #include <fcntl.h>
    #include <unistd.h>

    static int is(int fd) { if (fd == -1) return -errno; return fd; }
    int by_open(const char *p, int flags) { return is(open(p, flags)); }
    int by_open_with_mode(const char *p, int flags) { return is(open(p, flags, 0600)); }
    int by_open64(const char *p, int flags) { return is(open64(p, flags)); }
    int by_openat(const char *p, int flags) { return is(openat(AT_FDCWD, p, flags)); }
    int by_openat64(const char *p, int flags) { return is(openat64(AT_FDCWD, p, flags)); }
    int by_creat(const char *p, int flags) { return is(creat(p, 0640)); }
    int by_creat64(const char *p, int flags) { return is(creat64(p, 0640)); }
    extern int __open(const char *, int, ...), __open64(const char *, int, ...);
    int by_another_name(const char *p, int flags) { return is(__open(p, flags)); }
    int by_yet_another_name(const char *p, int flags) { return is(__open64(p, flags)); }
    int flushes(const char *p, int flags) {
        int fd = open(p, O_RDWR); if (fd < 0) return -errno;
        if (fsync(fd) || fdatasync(fd)) return -errno;
        close(fd); errno = 0;
        if (fsync(-1) != -1 || errno != EBADF) return 1;
        errno = 0; if (fdatasync(-1) != -1 || errno != EBADF) return 2;
        return 0;
    }
"#;

type Opens = extern "C" fn(*const c_char, c_int) -> c_int;

fn function(library: &c::Library, name: &str) -> Opens {
    // SAFETY: all that are asked for are such functions.
    unsafe { library.function(name) }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn fifo(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.path().join(name);
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(c_path(&path).as_ptr(), 0o600) }, 0);
    path
}

/// What the other greenlet says while one waits for input.
const OTHER: &str = "the other one runs";

/// In a process of its own: reads a line in a greenlet, and has another one say something meanwhile.
fn reads_a_line() {
    let reads = greenlet::spawn(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        line
    });
    greenlet::spawn(|| eprintln!("{OTHER}")).join().unwrap();
    assert_eq!(reads.join().unwrap(), "a line\n");
}

/// Runs the test in a process that reads from `stdin`, and does `write` once the other greenlet has run there.
fn with_input(test: &str, stdin: impl Into<Stdio>, write: impl FnOnce(&mut Child)) {
    let mut process =
        process_of(test).stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(process.stderr.take().unwrap());
    let mut lines = said.lines().map(Result::unwrap);
    assert!(lines.any(|line| line == OTHER), "nobody else ran while it waited for input");
    write(&mut process);
    let rest: Vec<_> = lines.collect();
    assert!(process.wait().unwrap().success(), "{rest:?}");
}

#[test]
fn standard_input_from_a_pipe_is_waited_for_by_the_greenlet() {
    let test = "stdin::standard_input_from_a_pipe_is_waited_for_by_the_greenlet";
    if is_in_process(test) {
        return in_time(reads_a_line);
    }
    with_input(test, Stdio::piped(), |process| {
        process.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    });
}

#[test]
fn standard_input_from_a_terminal_is_waited_for_by_the_greenlet() {
    let test = "stdin::standard_input_from_a_terminal_is_waited_for_by_the_greenlet";
    if is_in_process(test) {
        return in_time(reads_a_line);
    }
    let (mut master, mut slave, none) = (-1, -1, std::ptr::null_mut());
    let opened =
        // SAFETY: the first two pointers are to integers of ours, the others may be null.
        unsafe { libc::openpty(&mut master, &mut slave, none, std::ptr::null_mut(), std::ptr::null_mut()) };
    assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: openpty(3) has just made both for us.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    with_input(test, slave, |_| master.write_all(b"a line\n").unwrap());
}

#[test]
fn a_greenlet_that_opens_a_fifo_waits_for_the_other_one() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = fifo(&scratch, "std");
        let reads = path.clone();
        let reader = greenlet::spawn(move || File::open(reads).unwrap());
        let writer = greenlet::spawn(move || {
            // The first one is to be at it already: it may not have kept the thread.
            greenlet::yield_now();
            File::options().write(true).open(path).unwrap()
        });
        writer.join().unwrap().write_all(b"heard").unwrap();
        drop(writer);
        let mut heard = [0; 5];
        reader.join().unwrap().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"heard");
    });
}

#[test]
fn every_way_to_open_a_fifo_waits_for_the_other_side() {
    in_time(|| {
        let library = c::load(OPENS);
        let scratch = Scratch::new();
        let names = [
            "by_open",
            "by_open_with_mode",
            "by_open64",
            "by_openat",
            "by_openat64",
            "by_creat",
            "by_creat64",
            "by_another_name",
            "by_yet_another_name",
        ];
        for name in names {
            let path = c_path(&fifo(&scratch, name));
            let other_side = path.clone();
            let opens = function(&library, name);
            let opener = greenlet::spawn(move || opens(path.as_ptr(), libc::O_WRONLY));
            let other = function(&library, "by_open");
            let other = greenlet::spawn(move || other(other_side.as_ptr(), libc::O_RDONLY));
            let (fd, other) = (opener.join().unwrap(), other.join().unwrap());
            assert!(fd >= 0 && other >= 0 && fd != other, "{name}: {fd} {other}");
            // SAFETY: they are ours.
            unsafe { (libc::close(fd), libc::close(other)) };
        }
    });
}

#[test]
fn a_timeout_ends_the_wait_for_the_other_side() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = fifo(&scratch, "alone");
        let opens = greenlet::spawn(move || {
            let mut result = None;
            let _ = greenlet::timeout(Duration::from_millis(5), || {
                result = Some(File::open(path).unwrap_err().raw_os_error());
                greenlet::yield_now()
            });
            result
        });
        assert_eq!(opens.join().unwrap(), Some(Some(libc::ECANCELED)));
    });
}

#[test]
fn what_need_not_wait_is_opened_in_place() {
    in_time(|| {
        let library = c::load(OPENS);
        let scratch = Scratch::new();
        let path = c_path(&fifo(&scratch, "fifo"));
        let file = c_path(&scratch.path().join("file"));
        let missing = c_path(&scratch.path().join("missing"));
        let (open, creat, mode) = (
            function(&library, "by_open"),
            function(&library, "by_creat"),
            function(&library, "by_open_with_mode"),
        );
        let all = move || {
            // SAFETY: they are ours.
            let close = |fd| unsafe { libc::close(fd) };
            assert_eq!(open(path.as_ptr(), libc::O_WRONLY | libc::O_NONBLOCK), -libc::ENXIO);
            assert_eq!(close(open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK)), 0);
            assert_eq!(close(open(path.as_ptr(), libc::O_RDWR)), 0);
            assert_eq!(open(missing.as_ptr(), libc::O_RDONLY), -libc::ENOENT);
            assert_eq!(close(creat(file.as_ptr(), 0)), 0);
            assert_eq!(mode(file.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY), -libc::EEXIST);
            let found = std::fs::metadata(std::ffi::OsStr::from_bytes(file.as_bytes())).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o177, 0o040);
        };
        std::thread::spawn(all.clone()).join().unwrap();
        greenlet::spawn(all).join().unwrap();
    });
}

#[test]
fn files_on_disk_are_opened_and_flushed_as_the_policy_says() {
    in_process("stdin::files_on_disk_are_opened_and_flushed_as_the_policy_says", || {
        let library = c::load(OPENS);
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("file"), "text").unwrap();
        let path = c_path(&scratch.path().join("file"));
        let flushes = function(&library, "flushes");
        for (files, others_run) in [(Files::Through, false), (Files::Pool, true)] {
            settings::set_files(files);
            // A thread of the pool may be so fast that nobody has to wait for it, but not each time.
            let one_ran = (0..1_000).any(|_| {
                let ran = std::rc::Rc::new(std::cell::Cell::new(false));
                let (seen, path) = (ran.clone(), path.clone());
                let flush = greenlet::spawn(move || (flushes(path.as_ptr(), 0), seen.get()));
                greenlet::spawn(move || ran.set(true));
                let (result, ran) = flush.join().unwrap();
                assert_eq!(result, 0, "{files:?}");
                ran
            });
            assert_eq!(one_ran, others_run, "{files:?}");
        }
    });
}

#[test]
fn files_on_disk_are_read_and_written_as_the_policy_says() {
    in_process("stdin::files_on_disk_are_read_and_written_as_the_policy_says", || {
        // So large that another thread is not done before the hub has looked whether it is.
        const SIZE: usize = 64 << 20;
        let scratch = Scratch::new();
        let mut file = std::fs::File::options();
        let file = file.read(true).write(true).create(true).truncate(true);
        let file = file.open(scratch.path().join("file")).unwrap();
        for (files, others_run) in [(Files::Through, false), (Files::Pool, true)] {
            settings::set_files(files);
            let ran = std::rc::Rc::new(std::cell::Cell::new(false));
            let (seen, set, mut file) = (ran.clone(), ran, file.try_clone().unwrap());
            let both = greenlet::spawn(move || {
                let mut bytes = vec![b'x'; SIZE];
                std::io::Seek::rewind(&mut file).unwrap();
                assert_eq!(std::io::Write::write(&mut file, &bytes).unwrap(), SIZE);
                let writing = seen.take();
                std::io::Seek::rewind(&mut file).unwrap();
                bytes.fill(0);
                assert_eq!(std::io::Read::read(&mut file, &mut bytes).unwrap(), SIZE);
                assert!(bytes.iter().all(|byte| *byte == b'x'));
                (writing, seen.take())
            });
            let ticker = greenlet::spawn(move || {
                loop {
                    set.set(true);
                    greenlet::yield_now();
                }
            });
            assert_eq!(both.join().unwrap(), (others_run, others_run), "{files:?}");
            ticker.kill().unwrap();
        }
    });
}

#[test]
fn standard_output_parks_the_greenlet_if_it_is_told_to() {
    in_process("stdin::standard_output_parks_the_greenlet_if_it_is_told_to", || {
        settings::set_stdout(settings::Stdout::Park);
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: descriptors of this process, which is the test's own.
        let before = unsafe { libc::dup(1) };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&writer), 1) }, 1);
        drop(writer);
        let much = vec![b'x'; 1 << 20];
        let size = much.len() as isize;
        // SAFETY: as many bytes as there are.
        let writing = greenlet::spawn(move || unsafe { libc::write(1, much.as_ptr().cast(), much.len()) });
        let reading = greenlet::spawn(move || {
            let mut all = vec![0; 1 << 20];
            std::io::Read::read_exact(&mut reader, &mut all).unwrap();
            all.iter().all(|byte| *byte == b'x')
        });
        let (written, right) = (writing.join(), reading.join());
        // SAFETY: as above.
        unsafe { libc::dup2(before, 1) };
        assert_eq!((written.unwrap(), right.unwrap()), (size, true));
    });
}
