//! WebSockets (RFC 6455): the handshake, and messages in blocking style.
//!
//! ```
//! use greenserve::{Request, Response, websocket};
//!
//! fn echo(req: Request) -> Response {
//!     websocket::accept(req, |ws| {
//!         while let Some(message) = ws.recv()? {
//!             ws.send(message)?;
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! A [`WebSocket`] belongs to its connection's green thread, which reads. Any number of other green threads send, each by a
//! [`Sender`]. [`Acceptor`] has the settings.
//!
//! # Who may connect
//! Browsers let any page open a WebSocket to any server, and send that server's cookies along: a page of somebody else could
//! act in the name of your user (cross-site WebSocket hijacking). So a handshake whose `Origin` is not the host it was sent to is
//! refused with 403, unless [`Acceptor::origins`] or [`Acceptor::any_origin`] say otherwise. Programs send no `Origin` and are
//! let in: that check protects users of browsers, it is no authentication. Behind a proxy that changes `Host`, name the
//! origins.
//!
//! This room knows messages, and the upgraded connection as a stream of bytes; it knows nothing of sockets. Frames are
//! `tungstenite`'s work.

mod acceptor;
mod handshake;
mod link;
mod message;
mod sender;
mod socket;

pub use acceptor::{Acceptor, accept};
pub use message::{CloseFrame, Message, Text};
pub use sender::Sender;
pub use socket::WebSocket;

/// The status codes of RFC 6455, 7.4.1, with which a WebSocket is closed. 3000 to 4999 are the applications' own.
pub mod close {
    /// All is said.
    pub const NORMAL: u16 = 1000;
    /// The server stops, or the page was left.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer has broken the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// Data of a kind that is not accepted.
    pub const UNSUPPORTED: u16 = 1003;
    /// Text that is not UTF-8.
    pub const INVALID: u16 = 1007;
    /// Against the rules of the application.
    pub const POLICY: u16 = 1008;
    /// A message that is too big.
    pub const TOO_BIG: u16 = 1009;
    /// The server has failed.
    pub const ERROR: u16 = 1011;
    /// Try again later.
    pub const AGAIN: u16 = 1013;
}
