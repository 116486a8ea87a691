//! What happens before the first byte of HTTP (or of TLS): the PROXY header is read, and its addresses take the place of the
//! socket's.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::conn::later;
use super::settings::Settings;
use super::stop::ServerHandle;
use super::transport::{Transport, is_timeout};
use crate::app::Addr;
use crate::http::{ProxyEnds, ProxyHeader, ProxyProtocol};

/// How long a connection that was accepted while the server stops may keep silent.
pub(super) const LAST_CALL: Duration = Duration::from_millis(500);

/// Between whom a connection is. As large as an address, since each idle connection has one.
#[derive(Clone)]
pub(crate) enum Ends {
    /// The socket's peer; the other end is asked of the socket.
    Socket(Addr),
    /// What a PROXY header says.
    Proxied(Box<Proxied>),
}

/// The addresses that a PROXY header gave.
#[derive(Debug, Clone)]
pub(crate) struct Proxied {
    pub(crate) peer: Addr,
    pub(crate) local: Addr,
    pub(crate) tls: bool,
}

impl Ends {
    pub(crate) fn peer(&self) -> &Addr {
        match self {
            Ends::Socket(peer) => peer,
            Ends::Proxied(proxied) => &proxied.peer,
        }
    }
}

/// As the peer.
impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer().fmt(f)
    }
}

/// What has become of a connection that has to begin with a PROXY header.
pub(super) enum Arrival {
    /// What follows is the client's.
    Here(Ends),
    /// Nothing has come for a while. It may be waited for so much longer, without this thread.
    Silent(Duration),
    /// It has ended, or was refused, and is to be closed without a word: whoever is there need not speak HTTP.
    Gone,
}

/// Reads the PROXY header, and not one byte more, so that TLS can begin right behind it. Once for each connection, before
/// anything else is read. With `leave` the wait may end in [`Arrival::Silent`].
#[cold]
#[inline(never)]
pub(super) fn arrive<T: Transport>(
    io: &T,
    peer: &Addr,
    settings: &Settings,
    server: &ServerHandle,
    leave: bool,
) -> Arrival {
    if !settings.proxy_allow_ips.contain(peer) {
        log::info!("{peer}: closed: proxy_allow_ips does not let it speak the PROXY protocol");
        return Arrival::Gone;
    }
    let mut header = vec![0; 256];
    io.set_idle(true);
    // Whoever stops the server sees the mark just made, or made the one looked at here.
    let most = if server.is_stopping() { LAST_CALL } else { settings.header_timeout };
    let patience = T::PATIENCE.filter(|patience| leave && *patience < most);
    let first = io.receive(&mut header, true, patience.unwrap_or(most));
    if let (Err(error), Some(patience)) = (&first, patience)
        && is_timeout(error)
    {
        // It stays marked.
        return Arrival::Silent(most - patience);
    }
    io.set_idle(false);
    // Who leaves without a word, as some health checks do, is none to tell of.
    let Ok(seen @ 1..) = first else { return Arrival::Gone };
    match read(io, settings, header, seen) {
        Ok(found) => Arrival::Here(ends(peer, found)),
        Err(error) => {
            log::info!("{peer}: closed: {error}");
            Arrival::Gone
        }
    }
}

/// `header` begins with `seen` bytes that were looked at and are still in the socket.
fn read<T: Transport>(
    io: &T,
    settings: &Settings,
    mut header: Vec<u8>,
    mut seen: usize,
) -> io::Result<ProxyHeader> {
    let deadline = later(Instant::now(), settings.header_timeout);
    let mut taken = 0;
    loop {
        if seen == 0 {
            let message = "it ended before its PROXY header did";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        let found = settings.proxy_protocol.read(&header[..taken + seen]).map_err(io::Error::other)?;
        // All that was seen belongs to a header that is not whole.
        let mine = found.as_ref().map_or(seen, |found| found.length - taken);
        take(io, &mut header[taken..taken + mine])?;
        taken += mine;
        if let Some(found) = found {
            return Ok(found);
        }
        if taken == header.len() {
            header.resize((2 * taken).min(ProxyProtocol::LONGEST), 0);
        }
        seen = loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                let message = "its PROXY header did not arrive within the header timeout";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            match io.receive(&mut header[taken..], true, wait) {
                Err(error) if is_timeout(&error) => {}
                result => break result?,
            }
        };
    }
}

/// Takes bytes out of the socket that were seen there.
fn take<T: Transport>(io: &T, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match io.receive(bytes, false, Duration::from_secs(1))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes = &mut bytes[count..],
        }
    }
    Ok(())
}

fn ends(peer: &Addr, found: ProxyHeader) -> Ends {
    let path = |bytes: Vec<u8>| {
        Addr::Unix((!bytes.is_empty()).then(|| PathBuf::from(std::ffi::OsString::from_vec(bytes))))
    };
    let (peer, local) = match found.ends {
        ProxyEnds::Socket => return Ends::Socket(peer.clone()),
        ProxyEnds::Inet { source, destination } => (source.into(), destination.into()),
        ProxyEnds::Unix { source, destination } => (path(source), path(destination)),
    };
    Ends::Proxied(Box::new(Proxied { peer, local, tls: found.tls }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_take_no_more_room_than_an_address() {
        assert_eq!(size_of::<Ends>(), size_of::<Addr>());
    }

    #[test]
    fn paths_of_unix_sockets_are_kept_and_empty_ones_are_none() {
        let found = ProxyEnds::Unix { source: Vec::new(), destination: b"/run/a".to_vec() };
        let socket = Addr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        match ends(&socket, ProxyHeader { length: 0, ends: found, tls: true }) {
            Ends::Proxied(proxied) => {
                assert_eq!((&proxied.peer, proxied.tls), (&Addr::Unix(None), true));
                assert_eq!(proxied.local, Addr::Unix(Some("/run/a".into())));
            }
            Ends::Socket(_) => panic!("the header has addresses"),
        }
        let found = ends(&socket, ProxyHeader { length: 0, ends: ProxyEnds::Socket, tls: false });
        assert_eq!(*found.peer(), socket);
    }
}
