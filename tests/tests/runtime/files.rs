//! Files, pipes and terminals are read and written without stopping the hub.

use std::cell::Cell;
use std::fs as std_fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use greenlet::fs::{self, File, FileObject, pipe};
use greenlet::{sleep, spawn, stats, timeout};
use greenserve_tests::{Scratch, in_time};

use crate::{FOREVER, SHORT};

fn flags(fd: &impl AsFd) -> i32 {
    // SAFETY: fcntl(2) with F_GETFL takes no pointer.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) }
}

#[test]
fn whole_files_are_read_and_written() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        assert_eq!(fs::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!fs::exists(&path).unwrap());
        fs::write(&path, "some text").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"some text");
        assert_eq!(fs::read_to_string(&path).unwrap(), "some text");
        assert_eq!(fs::metadata(&path).unwrap().len(), 9);
        let copy = scratch.path().join("copy");
        assert_eq!(fs::copy(&path, &copy).unwrap(), 9);
        fs::rename(&copy, scratch.path().join("moved")).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().iter().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "moved"]);
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        assert_eq!(
            fs::remove_dir(scratch.path().join("a")).unwrap_err().kind(),
            ErrorKind::DirectoryNotEmpty
        );
        fs::remove_dir_all(scratch.path().join("a")).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(fs::symlink_metadata(&path).is_err());
    });
}

#[test]
fn an_open_file_reads_writes_and_seeks() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let mut file = File::create_new(&path).unwrap();
        // more than passes through in one call
        let content: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 299_997);
        let mut end = Vec::new();
        file.read_to_end(&mut end).unwrap();
        assert_eq!(end, content[299_997..]);
        file.rewind().unwrap();
        let mut all = vec![0; 300_000];
        file.read_exact(&mut all).unwrap();
        assert_eq!(all, content);
        assert_eq!(file.read(&mut [0; 8]).unwrap(), 0, "the end");
        assert_eq!(file.write_at(b"AB", 100).unwrap(), 2);
        let mut two = [0; 2];
        assert_eq!(file.read_at(&mut two, 100).unwrap(), 2);
        assert_eq!(&two, b"AB");
        file.set_len(10).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10);
        let mut std = file.into_std().unwrap();
        std.rewind().unwrap();
        let mut rest = Vec::new();
        std.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, content[..10]);
        let mut read_only = File::open(&path).unwrap();
        assert!(read_only.write(b"x").is_err());
    });
}

#[test]
fn the_hub_goes_on_while_a_file_is_opened_that_blocks() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("fifo");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // opening a fifo waits for the other side, which is this thread's, too
        let reading = spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        sleep(SHORT);
        fs::write(&path, "through the fifo").unwrap();
        assert_eq!(reading.join().unwrap(), "through the fifo");
    });
}

#[test]
fn pipes_park_their_reader_and_writer() {
    in_time(|| {
        type Ends = fn() -> (FileObject, FileObject);
        let shared: Ends = || {
            let (reader, writer) = std::io::pipe().unwrap();
            (FileObject::from(OwnedFd::from(reader)), FileObject::from(OwnedFd::from(writer)))
        };
        let exclusive: Ends = || pipe().unwrap();
        for ends in [shared, exclusive] {
            let (reader, mut writer) = ends();
            let lines = spawn(move || BufReader::new(reader).lines().map(Result::unwrap).collect::<Vec<_>>());
            writer.write_all(b"first\nsec").unwrap();
            sleep(SHORT);
            writer.write_all(b"ond\n").unwrap();
            drop(writer);
            assert_eq!(lines.join().unwrap(), ["first", "second"]);

            let (mut reader, mut writer) = ends();
            let writing = spawn(move || writer.write_all(&[b'x'; 1_000_000]));
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            writing.join().unwrap().unwrap();
            assert_eq!(all.len(), 1_000_000);
            drop(reader);

            let (reader, mut writer) = ends();
            drop(reader);
            assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            drop(writer);
            assert_eq!(stats().descriptors, 0);
        }
    });
}

#[test]
fn a_killed_or_timed_out_reader_leaves_nothing_and_the_next_one_reads() {
    in_time(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        for reader in [
            FileObject::from(OwnedFd::from(reader.try_clone().unwrap())),
            FileObject::exclusive(reader.into()).unwrap(),
        ] {
            let reader = Rc::new(reader);
            let job = spawn({
                let reader = Rc::clone(&reader);
                move || (&*reader).read(&mut [0; 1])
            });
            sleep(SHORT);
            job.kill().unwrap();
            assert!(timeout(SHORT, || (&*reader).read(&mut [0; 1])).is_err());
            reader.set_read_timeout(SHORT).unwrap();
            assert_eq!((&*reader).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(reader.set_read_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
            reader.set_read_timeout(None).unwrap();
            (&writer).write_all(b"x").unwrap();
            assert_eq!((&*reader).read(&mut [0; 1]).unwrap(), 1);
            assert_eq!((stats().greenlets, stats().timers), (0, 0));
        }
    });
}

#[test]
fn flags_that_others_share_stay_as_they_are() {
    in_time(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        let before = flags(&reader);
        let object = FileObject::from(OwnedFd::from(reader.try_clone().unwrap()));
        let job = spawn(move || {
            let mut object = object;
            assert_eq!(object.read(&mut [0; 8]).unwrap(), 1);
            object
        });
        sleep(SHORT);
        assert_eq!(flags(&reader), before, "while it waits");
        (&writer).write_all(b"x").unwrap();
        let fd = job.join().unwrap().into_fd().unwrap();
        assert_eq!(flags(&fd), before, "afterwards");
        let exclusive = FileObject::exclusive(fd).unwrap();
        assert_ne!(flags(&reader) & libc::O_NONBLOCK, 0, "exclusive changes them");
        assert_eq!(flags(&exclusive.into_fd().unwrap()) & libc::O_NONBLOCK, 0, "and gives them back");
    });
}

#[test]
fn the_way_follows_from_the_kind_of_the_descriptor() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std_fs::write(&path, "content").unwrap();
        for mut file in [
            FileObject::from(OwnedFd::from(std_fs::File::open(&path).unwrap())),
            FileObject::exclusive(std_fs::File::open(&path).unwrap().into()).unwrap(),
        ] {
            assert!(file.uses_threads());
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
        let zero = std_fs::File::open("/dev/zero").unwrap();
        let mut zero = FileObject::from(OwnedFd::from(zero));
        assert!(!zero.uses_threads());
        let mut bytes = [1; 100];
        zero.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 100]);
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, other) = (FileObject::from(OwnedFd::from(one)), FileObject::from(OwnedFd::from(other)));
        let reading = spawn(move || {
            let mut text = [0; 6];
            (&other).read_exact(&mut text).unwrap();
            text
        });
        sleep(SHORT);
        one.write_all(b"socket").unwrap();
        assert_eq!(&reading.join().unwrap(), b"socket");
    });
}

#[test]
fn a_terminal_is_waited_for_by_the_hub() {
    in_time(|| {
        let (mut master, mut slave) = terminal();
        let typed = spawn(move || {
            let mut line = String::new();
            BufReader::new(&mut slave).read_line(&mut line).unwrap();
            slave.write_all(&[b'y'; 1000]).unwrap();
            line
        });
        let others = Rc::new(Cell::new(0));
        let counting = spawn({
            let others = Rc::clone(&others);
            move || others.set(others.get() + 1)
        });
        counting.join().unwrap();
        master.write_all(b"a line\n").unwrap();
        assert_eq!(typed.join().unwrap(), "a line\n");
        let mut seen = Vec::new();
        while seen.iter().filter(|byte| **byte == b'y').count() < 1000 {
            let mut bytes = [0; 512];
            let count = master.read(&mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(others.get(), 1);
    });
}

/// A pseudo terminal: the side of the emulator, and that of the program.
fn terminal() -> (FileObject, FileObject) {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: the first two pointers are to integers of ours, the others may be null.
    let opened =
        unsafe { libc::openpty(&mut master, &mut slave, none, std::ptr::null_mut(), std::ptr::null_mut()) };
    assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: openpty(3) has just made both for us.
    unsafe { (FileObject::from(OwnedFd::from_raw_fd(master)), FileObject::from(OwnedFd::from_raw_fd(slave))) }
}

/// Set in the child.
const ROLE: &str = "RUNTIME_TEST_FILES";

#[test]
fn the_standard_streams_are_cooperative() {
    let name = "files::the_standard_streams_are_cooperative";
    if std::env::var_os(ROLE).is_some() {
        let other = spawn(|| {
            sleep(SHORT);
            // the reader waits meanwhile
            let mut out = fs::stdout().unwrap();
            writeln!(out, "ready").unwrap();
        });
        let mut line = String::new();
        BufReader::new(fs::stdin().unwrap()).read_line(&mut line).unwrap();
        other.join().unwrap();
        write!(fs::stderr().unwrap(), "got {line}").unwrap();
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    // it answers before it gets its line: the hub is not stopped by the reader
    assert!(stdout.any(|line| line.unwrap().ends_with("ready")));
    stdin.write_all(b"the line\n").unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("got the line"), "{errors}");
    assert!(stdout.all(|line| line.is_ok()));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_reader_of_one_pipe_is_an_error() {
    in_time(|| {
        let (reader, _writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let first = spawn({
            let reader = Rc::clone(&reader);
            move || timeout(FOREVER, || (&*reader).read(&mut [0; 1]))
        });
        sleep(SHORT);
        assert_eq!((&*reader).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ResourceBusy);
        first.kill().unwrap();
    });
}
