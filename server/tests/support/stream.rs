//! The client's end of a connection: a socket, perhaps with TLS over it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use greenserve::Server;

use super::PATIENCE;

/// Reads and writes what the application does; all else is of the socket. An end without `close_notify` is an error.
pub(crate) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    pub(crate) fn connect(addr: SocketAddr) -> Stream {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Stream::Plain(socket)
    }

    pub(crate) fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Stream::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        (**self).shutdown(how)
    }
}

impl Deref for Stream {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buf),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buf),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(not(feature = "tls"))]
impl Stream {
    pub(super) fn with_tls(self) -> Stream {
        self
    }
}

#[cfg(not(feature = "tls"))]
pub(super) fn speak_tls(server: Server) -> Server {
    server
}

#[cfg(feature = "tls")]
pub(super) use self::over_tls::speak_tls;

#[cfg(feature = "tls")]
mod over_tls {
    use std::sync::{Arc, LazyLock};

    use greenserve::tls::{ServerConfig, TlsConfig};
    use rcgen::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;

    /// A certificate for `localhost`, and who trusts it.
    static ENDS: LazyLock<(TlsConfig, Arc<ClientConfig>)> = LazyLock::new(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = TlsConfig::new(move || {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
            let key = signing_key.serialize_der().try_into().unwrap();
            Ok(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap()))
        });
        (server.unwrap(), Arc::new(client))
    });

    pub(in super::super) fn speak_tls(server: Server) -> Server {
        server.tls(&ENDS.0)
    }

    impl Stream {
        /// TLS from here on. The handshake is done with the first bytes.
        pub(in super::super) fn with_tls(self) -> Stream {
            let Stream::Plain(socket) = self else { return self };
            let client = ClientConnection::new(Arc::clone(&ENDS.1), "localhost".try_into().unwrap());
            Stream::Tls(Box::new(StreamOwned::new(client.unwrap(), socket)))
        }
    }
}
