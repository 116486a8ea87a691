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
//!
//! # From gevent
//!
//! | `gevent.ssl` | here | difference |
//! |---|---|---|
//! | `SSLContext`, `create_default_context` | [`client_config`], [`client_config_trusting`], [`server_config`] | rustls's configurations; no SSL, no TLS below 1.2; names are always checked |
//! | `SSLContext.load_cert_chain` | [`server_config`] | a client's own certificate is set in rustls's `ClientConfig` |
//! | `SSLContext.set_alpn_protocols`, `sni_callback` | `alpn_protocols`, `cert_resolver` of rustls's configurations | |
//! | `wrap_socket`, `do_handshake` | [`TlsStream::connect`], [`TlsStream::accept`] | there is no stream before the handshake is done, which has a timeout of its own |
//! | `SSLSocket` | [`TlsStream`] | read by one greenlet while others write |
//! | `SSLSocket.settimeout` | `get_ref().set_read_timeout`, `set_write_timeout` | [`TlsStream::get_ref`] is the socket |
//! | `SSLSocket.unwrap` | [`TlsStream::shutdown`], then read to the end | the plain socket does not come back |
//! | `suppress_ragged_eofs` | none | a connection that is cut is always an error (`UnexpectedEof`) |
//! | `getpeercert`, `cipher`, `version`, `selected_alpn_protocol` | [`TlsStream::peer_certificates`], [`TlsStream::cipher_suite`], [`TlsStream::protocol_version`], [`TlsStream::alpn_protocol`] | certificates as DER, not taken apart |
//! | `get_server_certificate` | [`TlsStream::peer_certificates`] | after a handshake that trusts it |
//! | `session`, `pending`, `get_channel_binding`, `renegotiate` | none | rustls resumes sessions by itself (`ClientConfig::resumption`); the others have no use here or are gone from TLS 1.3 |

mod config;
mod stream;
mod transport;

pub use config::{client_config, client_config_trusting, server_config};
pub use rustls;
pub use stream::TlsStream;
pub use transport::Transport;
