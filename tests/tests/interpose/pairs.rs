//! Descriptors of all kinds, by twos: what is written to one is read from the other.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use greenserve_tests::Scratch;

/// Two ends.
pub(crate) struct Pair {
    pub(crate) kind: &'static str,
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
}

impl Pair {
    pub(crate) fn reads(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    pub(crate) fn writes(&self) -> RawFd {
        self.writer.as_raw_fd()
    }
}

/// A descriptor that a C function gave.
pub(crate) fn owned(fd: libc::c_int) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the function has just made it, for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn pipe() -> Pair {
    let (reader, writer) = io::pipe().unwrap();
    Pair { kind: "pipe", reader: reader.into(), writer: writer.into() }
}

pub(crate) fn unix(kind: &'static str, socket: libc::c_int) -> Pair {
    let mut fds = [0; 2];
    // SAFETY: it writes two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, socket | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    assert_eq!(made, 0);
    Pair { kind, reader: owned(fds[0]), writer: owned(fds[1]) }
}

pub(crate) fn unix_stream() -> Pair {
    unix("unix stream", libc::SOCK_STREAM)
}

pub(crate) fn tcp() -> Pair {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    Pair { kind: "tcp", reader: reader.into(), writer: writer.into() }
}

pub(crate) fn udp() -> Pair {
    let [one, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    Pair { kind: "udp", reader: one.into(), writer: other.into() }
}

pub(crate) fn fifo() -> Pair {
    let scratch = Scratch::new();
    let path = scratch.path().join("fifo");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Opened for both it waits for nobody.
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(both);
    Pair { kind: "fifo", reader: reader.into(), writer: writer.into() }
}

/// A terminal in raw mode, which is read, and its other side.
pub(crate) fn terminal() -> Pair {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: it writes two descriptors.
    let made = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(made, 0);
    let (master, slave) = (owned(master), owned(slave));
    // SAFETY: zeroes are valid settings, which are then filled in.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: it is a terminal, and the settings live until the calls return.
    unsafe {
        assert_eq!(libc::tcgetattr(slave.as_raw_fd(), &raw mut settings), 0);
        libc::cfmakeraw(&raw mut settings);
        assert_eq!(libc::tcsetattr(slave.as_raw_fd(), libc::TCSANOW, &raw const settings), 0);
    }
    Pair { kind: "terminal", reader: slave, writer: master }
}

/// Those of which any number of bytes may be read, and written.
pub(crate) fn streams() -> Vec<Pair> {
    vec![pipe(), unix_stream(), tcp(), fifo(), terminal()]
}

/// Those that take a message at a time.
pub(crate) fn messages() -> Vec<Pair> {
    vec![unix("unix datagrams", libc::SOCK_DGRAM), unix("unix packets", libc::SOCK_SEQPACKET), udp()]
}

/// Whether socket calls can be made on it.
pub(crate) fn is_socket(fd: RawFd) -> bool {
    let mut kind: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: it writes a number.
    unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length) == 0
    }
}

pub(crate) fn set_nonblocking(fd: RawFd) {
    // SAFETY: these take numbers.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK), 0);
    }
}

/// `SO_RCVTIMEO` or `SO_SNDTIMEO`.
pub(crate) fn set_timeout(fd: RawFd, option: libc::c_int, milliseconds: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: milliseconds * 1_000 };
    let length = size_of_val(&time) as libc::socklen_t;
    // SAFETY: it reads a time.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const time).cast(), length) };
    assert_eq!(set, 0);
}

/// Writes so that nobody waits for it: these few bytes have room.
pub(crate) fn put(pair: &Pair, bytes: &[u8]) {
    let mut file = File::from(pair.writer.try_clone().unwrap());
    file.write_all(bytes).unwrap();
}
