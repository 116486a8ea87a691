//! Listening sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockFilter, SockRef, Socket, Type};

use super::passed::passed;
use crate::app::Addr;

/// How to listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// How many connections may wait to be accepted.
    pub(crate) backlog: u32,
    /// Others of this user may bind to the same port, and the kernel spreads connections over all.
    pub(crate) reuse_port: bool,
    /// A socket for `[::]` takes no IPv4 connections, for which there is another. Else it does if the kernel's default is so.
    pub(crate) only_v6: bool,
}

impl How {
    /// Alone, with so many waiting.
    pub(crate) fn plain(backlog: u32) -> How {
        How { backlog, reuse_port: false, only_v6: false }
    }
}

/// The port when an address names none, as gunicorn has it.
const DEFAULT_PORT: u16 = 8000;

/// A listening socket, not yet given to the green or the blocking world. It does not block.
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    pub(crate) addr: Addr,
    /// The Unix socket's file, which goes after the socket.
    pub(crate) file: Option<SocketFile>,
    /// Whoever has opened it keeps it when this program ends: what waits in its queue is not lost.
    pub(crate) kept: bool,
    /// What TLS is spoken with there.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::TlsConfig>,
}

impl Listener {
    /// Listens on `address`: `HOST`, `HOST:PORT`, `unix:PATH`, `unix:@NAME`, `fd://NUMBER` or `fd://NAME`. The last may be several.
    pub(crate) fn open(address: &str, how: How) -> io::Result<Vec<Listener>> {
        match address.strip_prefix("fd://").map(|which| (which, which.parse())) {
            Some((_, Ok(number))) => Ok(vec![Listener::given(number, how.backlog)?]),
            Some((name, Err(_))) => {
                let named = passed().into_iter().filter(|passed| passed.name == name);
                let named: Vec<_> = named
                    .map(|passed| Listener::given(passed.number, how.backlog))
                    .collect::<Result<_, _>>()?;
                if named.is_empty() {
                    let what = format!(
                        "can't listen on {address}: the service manager has passed no socket of that name \
                         (FileDescriptorName= of the socket unit, or the unit's name)"
                    );
                    return Err(io::Error::new(io::ErrorKind::NotFound, what));
                }
                Ok(named)
            }
            None => Ok(vec![Listener::bind(address, how)?]),
        }
    }

    /// Binds to an address that is no `fd://`, and listens.
    pub(crate) fn bind(address: &str, how: How) -> io::Result<Listener> {
        let name = address.strip_prefix("unix:").map(|name| name.strip_prefix("//").unwrap_or(name));
        let bound = match (name, name.and_then(|name| name.strip_prefix('@'))) {
            (_, Some(name)) => Listener::abstract_unix(name, how.backlog),
            (Some(path), None) => Listener::unix(Path::new(path), how.backlog),
            (None, None) => Listener::inet(address, how),
        };
        bound.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse if how.reuse_port => {
                    " (a port is shared by processes of one user only, all of which say so)"
                }
                _ => "",
            };
            io::Error::new(error.kind(), format!("can't listen on {address}: {error}{hint}"))
        })
    }

    /// One that the service manager, or whoever else has started the program, keeps open.
    pub(crate) fn given(number: i32, backlog: u32) -> io::Result<Listener> {
        let mut listener = Listener::inherited(number)?;
        listener.set_backlog(backlog)?;
        listener.kept = true;
        Ok(listener)
    }

    /// A socket that whoever started this program has left open under this number, and which listens already.
    pub(crate) fn inherited(number: i32) -> io::Result<Listener> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("can't listen on the inherited descriptor {number}: {error}"),
            )
        };
        let socket = Socket::from(greenlet::process::inherited(number).map_err(named)?);
        let listens = socket.is_listener().map_err(named)?;
        let addr = socket.local_addr().map_err(named)?;
        let addr = match (addr.as_socket(), addr.is_unix()) {
            (Some(addr), _) => addr.into(),
            (None, true) => super::threads::addr(&addr),
            _ => return Err(named(io::Error::other("it is neither a TCP nor a Unix socket"))),
        };
        if !listens {
            return Err(named(io::Error::other("it does not listen")));
        }
        socket.set_nonblocking(true).map_err(named)?;
        if let Addr::Inet(_) = addr {
            socket.set_tcp_nodelay(true).map_err(named)?;
        }
        Ok(Listener::new(socket, addr, None))
    }

    /// The same socket once more, for another hub. The Unix socket's file is left to the first.
    pub(crate) fn again(&self) -> io::Result<Listener> {
        Ok(Listener {
            socket: self.socket.try_clone()?,
            addr: self.addr.clone(),
            file: None,
            kept: self.kept,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        })
    }

    /// How many connections wait to be accepted, if the kernel tells: of TCP, on Linux.
    pub(crate) fn waiting(&self) -> Option<usize> {
        let Addr::Inet(_) = self.addr else { return None };
        greenlet::net::accept_queue(&self.socket).ok()
    }

    /// Has nobody new come, while those that are on their way can still be accepted: then it can be closed without resetting
    /// anybody.
    pub(crate) fn turn_away(&mut self) {
        if self.kept {
            return;
        }
        self.file = None;
        turn_away_from(SockRef::from(&self.socket));
    }

    /// The Unix socket's file stays when this is dropped: somebody else goes on listening.
    pub(crate) fn leave_file(&mut self) {
        if let Some(mut file) = self.file.take() {
            file.owner = 0;
        }
    }

    /// The Unix socket's file goes with this: whoever has made it has gone.
    pub(crate) fn own_file(&mut self, path: &Path) {
        self.file.get_or_insert_with(|| SocketFile::new(path.to_path_buf()));
    }

    /// Sets how many connections the kernel completes ahead of the server.
    pub(crate) fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        self.socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    fn inet(address: &str, how: How) -> io::Result<Listener> {
        let mut last = None;
        for addr in resolve(address)? {
            match Listener::inet_one(addr, how) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
    }

    fn inet_one(addr: SocketAddr, how: How) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if how.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if how.only_v6 && addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections inherit it: a response goes out when it is written, not when the last one was acknowledged.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(addr);
        Listener::new(socket, local.into(), None).listening(how.backlog)
    }

    fn abstract_unix(name: &str, backlog: u32) -> io::Result<Listener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A path that begins with NUL is no path.
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        let shown = Addr::Unix(Some(format!("@{name}").into()));
        Listener::new(socket, shown, None).listening(backlog)
    }

    fn unix(path: &Path, backlog: u32) -> io::Result<Listener> {
        if path.as_os_str().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path is empty: give it as unix:PATH",
            ));
        }
        let name = SockAddr::unix(path)?;
        remove_stale(path, &name)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&name)?;
        let file = Some(SocketFile::new(path.to_path_buf()));
        Listener::new(socket, Addr::Unix(Some(path.to_path_buf())), file).listening(backlog)
    }

    fn new(socket: Socket, addr: Addr, file: Option<SocketFile>) -> Listener {
        Listener {
            socket,
            addr,
            file,
            kept: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    fn listening(self, backlog: u32) -> io::Result<Listener> {
        self.set_backlog(backlog)?;
        self.socket.set_nonblocking(true)?;
        Ok(self)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.addr).finish()
    }
}

/// How long the last packet of a handshake that has begun may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_millis(100);

/// Has the kernel drop the packets by which clients ask for a connection: they ask again, and are refused by then. All others
/// pass, those that complete a handshake among them. For a Unix socket it is enough that its file has gone.
pub(crate) fn turn_away_from(socket: SockRef<'_>) {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let filter = [
        SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, FLAGS),
        SockFilter::new((libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16, 0, 1, SYN),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
        SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
    ];
    if socket.domain().is_ok_and(|domain| domain != Domain::UNIX) {
        // Without it one or the other client may be reset at the very end.
        let attached = socket.attach_filter(&filter);
        let _ = attached.inspect_err(|error| log::debug!("clients can't be turned away: {error}"));
    }
}

/// `HOST`, `HOST:PORT`, `:PORT`, `[::1]:PORT`.
fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let wrong = || {
        let message = "an address is HOST, HOST:PORT, unix:PATH or fd://NUMBER, such as 127.0.0.1:8000";
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let bare_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match address.rsplit_once(':') {
        _ if bare_v6 || address.ends_with(']') => (address, DEFAULT_PORT),
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (address, DEFAULT_PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = if host.is_empty() && address.starts_with(':') { "0.0.0.0" } else { host };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Removes a socket that a dead server has left behind; one that answers is in use.
pub(crate) fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            match Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(name) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
                _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
            }
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in the way")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a Unix socket's file when the process that made it is done.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Forked processes have it as well, and must leave it alone.
    owner: u32,
}

impl SocketFile {
    /// Of this process.
    pub(crate) fn new(path: PathBuf) -> SocketFile {
        SocketFile { path, owner: std::process::id() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another name, by which the socket is reached from now on. Who had that name before has it no longer.
    pub(crate) fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.path = path.to_path_buf();
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // Somebody else may have removed it, which is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_gunicorn_takes_them() {
        let one = |text| resolve(text).unwrap()[0].to_string();
        assert_eq!(one("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(one("127.0.0.1"), "127.0.0.1:8000");
        assert_eq!(one(":80"), "0.0.0.0:80");
        assert_eq!(one("[::1]:80"), "[::1]:80");
        assert_eq!(one("[::1]"), "[::1]:8000");
        assert_eq!(one("::1"), "[::1]:8000");
        for wrong in ["", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"] {
            assert_eq!(resolve(wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn a_bind_that_fails_names_its_address() {
        let first = Listener::bind("127.0.0.1:0", How::plain(1)).unwrap();
        let taken = first.addr.to_string();
        let error = Listener::bind(&taken, How::plain(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken), "{error}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = std::env::temp_dir().join(format!("greenserve-listen-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s");
        let address = format!("unix:{}", path.display());
        let live = Listener::bind(&address, How::plain(1)).unwrap();
        assert_eq!(Listener::bind(&address, How::plain(1)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert!(!path.exists(), "the file goes with its server");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(Listener::bind(&address, How::plain(1)).unwrap());
        fs::write(&path, "precious").unwrap();
        assert_eq!(Listener::bind(&address, How::plain(1)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_abstract_name_is_free_again_when_its_socket_is_closed() {
        let address = format!("unix:@greenserve-{}", std::process::id());
        let first = Listener::bind(&address, How::plain(1)).unwrap();
        assert_eq!(first.addr.to_string(), address);
        assert_eq!(Listener::bind(&address, How::plain(1)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Listener::bind(&address, How::plain(1)).unwrap();
    }

    #[test]
    fn a_name_that_no_service_manager_has_passed_is_said_to_be_none() {
        let error = Listener::open("fd://nobody", How::plain(1)).unwrap_err();
        assert!(error.to_string().contains("fd://nobody"), "{error}");
    }
}
