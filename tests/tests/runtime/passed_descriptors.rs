//! Descriptors that travel over unix sockets, and the credentials of their peers.

use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use greenlet::net::{TcpListener, TcpStream, UnixDatagram, UnixListener, UnixStream};
use greenlet::{sleep, spawn};
use greenserve_tests::{Scratch, in_time};

use crate::SHORT;

/// Whether nobody holds the writing end any more.
fn has_ended(mut reader: PipeReader) -> bool {
    greenlet::net::wait_read(&reader, SHORT).is_ok() && reader.read(&mut [0; 1]).unwrap() == 0
}

#[test]
fn a_connection_can_be_handed_over() {
    in_time(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = spawn(move || {
            let mut buffer = [0; 16];
            let (count, fds) = theirs.recv_fds(&mut buffer, 4).unwrap();
            assert_eq!((&buffer[..count], fds.len()), (&b"yours"[..], 1));
            let fd = fds.into_iter().next().unwrap();
            let mut stream = TcpStream::from_std(std::net::TcpStream::from(fd)).unwrap();
            stream.write_all(b"from the worker").unwrap();
        });
        sleep(SHORT);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        ours.send_fds(b"yours", &[accepted.as_fd()]).unwrap();
        drop(accepted);
        worker.join().unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the worker");
    });
}

#[test]
fn what_is_received_is_closed_on_exec_and_comes_in_order() {
    in_time(|| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let pipes: Vec<_> = (0..20).map(|_| pipe().unwrap()).collect();
        let fds: Vec<_> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
        ours.send_fds(b"twenty", &fds).unwrap();
        let (_, received) = theirs.recv_fds(&mut [0; 8], 20).unwrap();
        assert_eq!(received.len(), 20);
        for (index, fd) in received.into_iter().enumerate() {
            // SAFETY: only fcntl on an open descriptor.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
            std::fs::File::from(fd).write_all(&[index as u8]).unwrap();
            let mut byte = [0];
            (&pipes[index].0).read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), index);
        }
    });
}

#[test]
fn of_more_descriptors_than_were_expected_none_leaks() {
    in_time(|| {
        // One too many still has room in the padding; five do not.
        for (expected, sent) in [(0, 1), (1, 2), (1, 6), (3, 8)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let pipes: Vec<_> = (0..sent).map(|_| pipe().unwrap()).collect();
            let fds: Vec<_> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
            ours.send_fds(b"x", &fds).unwrap();
            let error = theirs.recv_fds(&mut [0; 8], expected).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains("more descriptors"), "{error}");
            for (reader, writer) in pipes {
                drop(writer);
                assert!(has_ended(reader), "{sent} sent, {expected} expected");
            }
            // The socket still works.
            ours.send_fds(b"more", &[]).unwrap();
            assert_eq!(theirs.recv_fds(&mut [0; 8], expected).unwrap().0, 4);
        }
    });
}

#[test]
fn a_plain_read_drops_the_descriptors_that_came_along() {
    in_time(|| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = pipe().unwrap();
        ours.send_fds(b"x", &[writer.as_fd()]).unwrap();
        drop(writer);
        assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 1);
        assert!(has_ended(reader));
    });
}

#[test]
fn messages_that_cannot_be_are_refused_before_they_are_sent() {
    in_time(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = OwnedFd::from(pipe().unwrap().0);
        let too_many = vec![fd.as_fd(); 254];
        for error in [
            ours.send_fds(b"x", &too_many).unwrap_err(),
            ours.send_fds(b"", &[fd.as_fd()]).unwrap_err(),
            theirs.recv_fds(&mut [0; 1], 254).unwrap_err(),
            theirs.recv_fds(&mut [], 1).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(ours.send_fds(b"x", &too_many[..253]).unwrap(), 1);
        assert_eq!(theirs.recv_fds(&mut [0; 1], 253).unwrap().1.len(), 253);
    });
}

#[test]
fn receiving_has_a_deadline_and_ends_with_the_peer() {
    in_time(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(theirs.recv_fds(&mut [0; 1], 1).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(ours);
        let (count, fds) = theirs.recv_fds(&mut [0; 1], 1).unwrap();
        assert_eq!((count, fds.len()), (0, 0));
    });
}

#[test]
fn the_peers_credentials_are_known() {
    in_time(|| {
        let scratch = Scratch::new();
        let listener = UnixListener::bind(scratch.join("socket")).unwrap();
        let client = UnixStream::connect(scratch.join("socket")).unwrap();
        let (server, _) = listener.accept().unwrap();
        // SAFETY: neither call can fail or touches memory.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        for stream in [client, server] {
            let cred = stream.peer_cred().unwrap();
            assert_eq!((cred.uid, cred.gid), (uid, gid));
            assert_eq!(cred.pid, Some(std::process::id() as i32));
        }
        assert_eq!(UnixDatagram::unbound().unwrap().peer_cred().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}
