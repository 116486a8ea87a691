//! What TLS runs over.

use std::io::{self, Read, Write};
use std::rc::Rc;

use super::TlsStream;
use crate::net;

/// A stream that is read and written through a shared reference, so that a [`TlsStream`] over it can be read by one
/// greenlet while others write. Every socket whose `&S` implements `Read` and `Write` is easily made one:
///
/// ```
/// use std::io::{self, Read, Write};
/// use greenlet::net::TcpStream;
/// use greenlet::tls::Transport;
///
/// /// Counts the bytes on the wire, say.
/// struct Counted(TcpStream);
///
/// impl Transport for Counted {
///     fn read_shared(&self, buffer: &mut [u8]) -> io::Result<usize> {
///         (&self.0).read(buffer)
///     }
///     fn write_shared(&self, buffer: &[u8]) -> io::Result<usize> {
///         (&self.0).write(buffer)
///     }
/// }
/// ```
pub trait Transport {
    /// As [`Read::read`].
    ///
    /// # Errors
    /// As [`Read::read`].
    fn read_shared(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Write::write`].
    ///
    /// # Errors
    /// As [`Write::write`].
    fn write_shared(&self, buffer: &[u8]) -> io::Result<usize>;

    /// As [`Write::flush`]; does nothing unless it is overridden.
    ///
    /// # Errors
    /// As [`Write::flush`].
    fn flush_shared(&self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! transport {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl $($generic)* Transport for $type {
            fn read_shared(&self, buffer: &mut [u8]) -> io::Result<usize> {
                let mut this = self;
                Read::read(&mut this, buffer)
            }

            fn write_shared(&self, buffer: &[u8]) -> io::Result<usize> {
                let mut this = self;
                Write::write(&mut this, buffer)
            }

            fn flush_shared(&self) -> io::Result<()> {
                let mut this = self;
                Write::flush(&mut this)
            }
        }
    )*};
}

transport!(
    [] net::TcpStream,
    [] net::UnixStream,
    [] std::net::TcpStream,
    [] std::os::unix::net::UnixStream,
    [<S: Transport>] TlsStream<S>,
);

impl<S: Transport + ?Sized> Transport for Rc<S> {
    fn read_shared(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_shared(buffer)
    }

    fn write_shared(&self, buffer: &[u8]) -> io::Result<usize> {
        (**self).write_shared(buffer)
    }

    fn flush_shared(&self) -> io::Result<()> {
        (**self).flush_shared()
    }
}
