//! TLS over any socket that parks, by rustls (gevent.ssl). Needs the cargo feature `tls`, which is off by default.
//!
//! [`TlsStream`] is a connection, for either side; [`client_config`] and [`server_config`] make rustls's own
//! configurations from what lies on the disk, and whatever else rustls can do is set there ([`rustls`] is exported).
//! The cryptography is `ring`'s: it needs a C compiler and nothing else to be built, where rustls's default
//! (`aws-lc-rs`) wants CMake and more.
//!
//! rustls's own `StreamOwned` works over our sockets as well. What it lacks is why this is here: reading and writing at
//! once from two greenlets, an end that is said (`close_notify`), a deadline for the handshake.
//!
//! What may not enter here: particular kinds of sockets (they are [`Transport`]s), and protocols above the stream.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::time::Duration;
//! use greenlet::net::create_connection;
//! use greenlet::tls::{TlsStream, client_config};
//!
//! let socket = create_connection(("www.example", 443), Duration::from_secs(10))?;
//! socket.set_read_timeout(Some(Duration::from_secs(10)))?;
//! let mut stream = TlsStream::connect(socket, client_config()?, "www.example", Duration::from_secs(10))?;
//! stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example\r\nConnection: close\r\n\r\n")?;
//! let mut response = Vec::new();
//! stream.read_to_end(&mut response)?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod config;
mod stream;
mod transport;

pub use config::{client_config, client_config_trusting, server_config};
pub use rustls;
pub use stream::TlsStream;
pub use transport::Transport;
