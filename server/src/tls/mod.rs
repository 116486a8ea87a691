//! What TLS is spoken with: certificates and keys from files, what is asked of clients, and how both are read again while the
//! server runs. Needs the cargo feature `tls`, which is on by default.
//!
//! No sockets in here: how a connection shakes hands and sends records is `serve/`'s business.
//!
//! ```no_run
//! use greenserve::Server;
//! use greenserve::tls::TlsFiles;
//!
//! # fn main() -> std::io::Result<()> {
//! let tls = TlsFiles::new("cert.pem", "key.pem").load()?;
//! // `tls.reload()` reads the files again, from any thread, once they have been renewed.
//! Server::bind(":443")?.tls(&tls).and_bind(":80")?.serve(|_req| "Hello, World!")
//! # }
//! ```
//!
//! The cryptography is rustls's with `ring`: TLS 1.2 and 1.3, cipher suites of its choice. `http/1.1` is the one protocol
//! offered by ALPN; a client that wants others only is told so (RFC 7301, 3.2). Sessions are resumed by tickets, whose keys
//! are made anew with each load.

mod files;
mod names;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::files::{CertReqs, TlsFiles};
pub use crate::app::{TlsInfo, TlsVersion};
pub use rustls::ServerConfig;

/// What connections begin TLS with, and how that is made again. A handle: clones are the same.
#[derive(Clone)]
pub struct TlsConfig(Arc<Shared>);

struct Shared {
    make: Box<Make>,
    current: Mutex<Arc<ServerConfig>>,
}

type Make = dyn Fn() -> io::Result<Arc<ServerConfig>> + Send + Sync;

impl TlsConfig {
    /// A configuration of rustls's own, for what [`TlsFiles`] does not do. `make` is called now and for each
    /// [`reload`](Self::reload).
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(
        make: impl Fn() -> io::Result<Arc<ServerConfig>> + Send + Sync + 'static,
    ) -> io::Result<TlsConfig> {
        let current = Mutex::new(make()?);
        Ok(TlsConfig(Arc::new(Shared { make: Box::new(make), current })))
    }

    /// Reads certificates and keys again: handshakes from now on have the new ones, connections that exist keep theirs. If it
    /// fails, all stays as it was. From any thread; blocks while it reads.
    ///
    /// # Errors
    /// As when they were first read.
    pub fn reload(&self) -> io::Result<()> {
        let new = (self.0.make)()?;
        *self.lock() = new;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock())
    }

    /// Nothing that can panic runs under the lock, so a poisoned one is whole all the same.
    fn lock(&self) -> MutexGuard<'_, Arc<ServerConfig>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}
