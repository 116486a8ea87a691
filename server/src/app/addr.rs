//! The address of one end of a connection.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The address of one end of a connection: an IP address with its port, or a Unix socket, which may have no name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Addr {
    /// A TCP address.
    Inet(SocketAddr),
    /// A Unix socket and its path; clients' sockets have none. An abstract name is shown as `@name`.
    Unix(Option<PathBuf>),
}

impl Addr {
    /// The TCP address, `None` for a Unix socket.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Inet(addr) => Some(*addr),
            Addr::Unix(_) => None,
        }
    }

    /// The Unix socket's path, `None` for TCP and for a socket without a name.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Addr::Inet(_) => None,
            Addr::Unix(path) => path.as_deref(),
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Addr {
        Addr::Inet(addr)
    }
}

impl From<std::os::unix::net::SocketAddr> for Addr {
    fn from(addr: std::os::unix::net::SocketAddr) -> Addr {
        let shown = |name: &[u8]| PathBuf::from(OsString::from_vec([b"@", name].concat()));
        Addr::Unix(addr.as_pathname().map(Path::to_path_buf).or_else(|| addr.as_abstract_name().map(shown)))
    }
}

/// `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/app.sock`, `unix:` for a socket without a name.
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Inet(addr) => addr.fmt(f),
            Addr::Unix(None) => f.write_str("unix:"),
            Addr::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_family_of_unix_sockets() {
        assert_eq!(Addr::from("[::1]:80".parse::<SocketAddr>().unwrap()).to_string(), "[::1]:80");
        assert_eq!(Addr::Unix(Some("/run/a.sock".into())).to_string(), "unix:/run/a.sock");
        assert_eq!(Addr::Unix(None).to_string(), "unix:");
    }
}
