//! Waiting for descriptors of any kind, one or many.

use std::fs::File;
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use greenlet::net::{
    PollFd, TcpListener, TcpStream, UnixStream, cancel_wait, poll, select, wait_read, wait_write,
};
use greenlet::{sleep, spawn, stats, timeout};
use greenserve_tests::in_time;

use crate::{FOREVER, SHORT};

/// A pipe whose writing end has no room.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // SAFETY: only fcntl on an open descriptor.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    writer.write_all(&vec![0; usize::try_from(size).unwrap()]).unwrap();
    (reader, writer)
}

fn event_fd() -> File {
    // SAFETY: the kernel makes a descriptor that is ours.
    unsafe { File::from(OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC))) }
}

/// The descriptor's own flags, `O_NONBLOCK` among them.
fn flags(fd: &impl AsFd) -> i32 {
    // SAFETY: only fcntl on an open descriptor.
    unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) }
}

#[test]
fn a_reader_of_a_pipe_parks_until_there_is_something_and_its_flags_stay() {
    in_time(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let before = flags(&reader);
        let reading = spawn(move || {
            wait_read(&reader, FOREVER).unwrap();
            let mut buffer = [0; 8];
            let count = reader.read(&mut buffer).unwrap();
            (buffer[..count].to_vec(), flags(&reader))
        });
        sleep(SHORT);
        assert!(!reading.is_dead());
        writer.write_all(b"now").unwrap();
        assert_eq!(reading.join().unwrap(), (b"now".to_vec(), before));
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
    });
}

#[test]
fn a_writer_of_a_pipe_parks_until_there_is_room() {
    in_time(|| {
        let (mut reader, writer) = full_pipe();
        assert_eq!(wait_write(&writer, Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
        let writing = spawn(move || wait_write(&writer, FOREVER));
        sleep(SHORT);
        assert!(!writing.is_dead());
        reader.read_exact(&mut vec![0; 16 << 10]).unwrap();
        writing.join().unwrap().unwrap();
    });
}

#[test]
fn eventfds_and_sockets_that_are_registered_already_can_be_waited_for() {
    in_time(|| {
        let event = event_fd();
        let mut setter = event.try_clone().unwrap();
        let waiting = spawn(move || wait_read(&event, FOREVER));
        sleep(SHORT);
        setter.write_all(&1u64.to_ne_bytes()).unwrap();
        waiting.join().unwrap().unwrap();

        let (mut one, mut other) = UnixStream::pair().unwrap();
        one.set_read_timeout(Some(SHORT)).unwrap();
        // this registers the socket
        assert!(one.read(&mut [0; 1]).is_err());
        assert_eq!(wait_read(&one, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        other.write_all(b"x").unwrap();
        wait_read(&one, FOREVER).unwrap();
        assert_eq!(one.read(&mut [0; 2]).unwrap(), 1);
    });
}

#[test]
fn a_regular_file_is_always_ready() {
    in_time(|| {
        let file = File::open("/proc/self/exe").unwrap();
        wait_read(&file, FOREVER).unwrap();
        wait_write(&file, FOREVER).unwrap();
        let (reader, _writer) = pipe().unwrap();
        let mut fds = [PollFd::new(&reader).read(), PollFd::new(&file).read()];
        assert_eq!(poll(&mut fds, FOREVER).unwrap(), 1);
        assert!(fds[1].is_readable() && !fds[0].is_ready());
        // one that was asked for what a file never has does not spoil the wait for the others
        let mut fds = [PollFd::new(&reader).read(), PollFd::new(&file).exceptional()];
        assert_eq!(poll(&mut fds, SHORT).unwrap(), 0);
    });
}

#[test]
fn the_peers_end_ends_a_wait() {
    in_time(|| {
        let (reader, writer) = pipe().unwrap();
        let waiting = spawn(move || wait_read(&reader, FOREVER));
        sleep(SHORT);
        drop(writer);
        waiting.join().unwrap().unwrap();
        let (reader, writer) = full_pipe();
        let waiting = spawn(move || {
            let mut fds = [PollFd::new(&writer).write()];
            poll(&mut fds, FOREVER).unwrap();
            (fds[0].is_writable(), fds[0].is_error())
        });
        sleep(SHORT);
        drop(reader);
        assert_eq!(waiting.join().unwrap(), (true, true));
    });
}

#[test]
fn a_wait_that_is_over_killed_or_timed_out_leaves_nothing_behind() {
    in_time(|| {
        let (reader, writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        assert_eq!(wait_read(&*reader, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(timeout(SHORT, || wait_read(&*reader, None)).is_err());
        let waiting = spawn({
            let reader = reader.clone();
            move || wait_read(&*reader, FOREVER)
        });
        sleep(SHORT);
        assert_eq!(stats().descriptors, 1);
        waiting.kill().unwrap();
        assert_eq!((stats().descriptors, stats().timers), (0, 0));
        // its place is free
        (&writer).write_all(b"x").unwrap();
        wait_read(&*reader, FOREVER).unwrap();
    });
}

#[test]
fn a_second_waiter_for_the_same_side_is_an_error_that_names_both() {
    in_time(|| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let one = Rc::new(one);
        let first = greenlet::Builder::new().name("first").spawn({
            let one = one.clone();
            move || wait_read(&*one, FOREVER)
        });
        sleep(SHORT);
        let second = greenlet::Builder::new().name("second").spawn({
            let one = one.clone();
            move || {
                // the other side is free
                wait_write(&*one, FOREVER).unwrap();
                let (idle, _peer) = UnixStream::pair().unwrap();
                let error =
                    poll(&mut [PollFd::new(&idle).read(), PollFd::new(&*one).read()], None).unwrap_err();
                assert_eq!(
                    wait_read(&idle, SHORT).unwrap_err().kind(),
                    ErrorKind::TimedOut,
                    "its place was given back"
                );
                error
            }
        });
        let error = second.unwrap().join().unwrap();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        let text = error.to_string();
        assert!(text.contains("'first'") && text.contains("'second'") && text.contains("read"), "{text}");
        other.write_all(b"x").unwrap();
        first.unwrap().join().unwrap().unwrap();
    });
}

#[test]
fn closing_and_cancelling_wake_those_who_wait() {
    in_time(|| {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let (reader, _writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let waiting = [
            spawn({
                let listener = listener.clone();
                move || wait_read(&*listener, FOREVER)
            }),
            spawn({
                let reader = reader.clone();
                move || poll(&mut [PollFd::new(&*reader).read()], FOREVER).map(drop)
            }),
        ];
        sleep(SHORT);
        listener.close();
        cancel_wait(&*reader);
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
        }
    });
}

#[test]
fn select_tells_who_is_ready_for_what_and_nobody_when_the_time_is_over() {
    in_time(|| {
        let (idle, _writer) = pipe().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let fds = [idle.as_fd(), client.as_fd()];
        for time in [Duration::ZERO, SHORT] {
            assert!(select(&fds, &[], &fds, time).unwrap().is_empty());
        }
        let ready = select(&fds, &[client.as_fd()], &fds, None).unwrap();
        assert_eq!((ready.readable.len(), ready.writable.len(), ready.exceptional.len()), (0, 1, 0));

        let sending = spawn(move || {
            sleep(SHORT);
            socket2::SockRef::from(&server).send_out_of_band(b"!").unwrap();
            server
        });
        let ready = select(&[idle.as_fd()], &[], &fds, FOREVER).unwrap();
        assert_eq!(
            ready.exceptional.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
            [client.as_raw_fd()]
        );
        assert!(ready.readable.is_empty());
        sending.join().unwrap();
    });
}

#[test]
fn many_descriptors_are_waited_for_at_once_and_one_may_be_named_twice() {
    in_time(|| {
        let pipes: Vec<_> = (0..200).map(|_| pipe().unwrap()).collect();
        let mut late = pipes[137].1.try_clone().unwrap();
        let writing = spawn(move || {
            sleep(SHORT);
            late.write_all(b"x").unwrap();
        });
        let mut fds: Vec<_> = pipes.iter().map(|(reader, _)| PollFd::new(reader).read()).collect();
        fds.push(PollFd::new(&pipes[137].0).read());
        assert_eq!(poll(&mut fds, FOREVER).unwrap(), 2);
        let ready: Vec<_> = (0..fds.len()).filter(|index| fds[*index].is_readable()).collect();
        assert_eq!(ready, [137, 200]);
        writing.join().unwrap();
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn waiting_for_nothing_without_end_is_refused() {
    in_time(|| {
        assert_eq!(poll(&mut [], None).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(poll(&mut [], SHORT).unwrap(), 0);
        assert!(select(&[], &[], &[], SHORT).unwrap().is_empty());
    });
}

// The portable poller wakes nobody for a half-close alone.
#[cfg(not(greenlet_portable))]
#[test]
fn a_half_closed_peer_is_told_from_one_that_has_gone_whatever_is_left_to_read() {
    in_time(|| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        (&theirs).write_all(b"unread").unwrap();
        let waiting = ours.try_clone().unwrap();
        let half = spawn(move || {
            let mut fds = [PollFd::new(&waiting).half_closed()];
            poll(&mut fds, FOREVER).map(|_| (fds[0].is_half_closed(), fds[0].is_hangup()))
        });
        sleep(SHORT);
        assert!(!half.is_dead(), "input is no half-close");
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(half.join().unwrap().unwrap(), (true, false));
        let waiting = ours.try_clone().unwrap();
        let gone = spawn(move || {
            let mut fds = [PollFd::new(&waiting)];
            poll(&mut fds, FOREVER).map(|_| (fds[0].is_half_closed(), fds[0].is_hangup()))
        });
        sleep(SHORT);
        assert!(!gone.is_dead(), "who does not ask is not told of a half-close");
        drop(theirs);
        assert_eq!(gone.join().unwrap().unwrap(), (false, true));
    });
}
