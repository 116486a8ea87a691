//! Servers: a greenlet that accepts, and one for each connection or datagram (`gevent.server`).
//!
//! [`StreamServer`] is for listening sockets, [`DatagramServer`] for datagrams. What may not enter here: protocols; the
//! inside of sockets, which `net` has, and of greenlets.

mod accept;
mod datagram;
mod life;
mod stream;

pub use accept::{AcceptFailure, Backoff};
pub use datagram::{Datagram, DatagramServer, DatagramSocket};
pub use stream::{Listen, StreamServer};
