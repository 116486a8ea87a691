//! What an application sees: requests, responses, bodies and the traits between them and a handler.
//!
//! This room knows nothing of sockets, of how a message is framed on the wire or of how a connection lives: an incoming
//! body reaches its connection through one small trait object (`Connection`). Everything here can be made by hand, so
//! that handlers are tested without a server.

mod addr;
mod body;
mod handler;
mod into_response;
mod request;
mod response;
mod spare;
pub mod sse;
mod upgrade;

pub use addr::Addr;
pub use body::{Body, BodyError, BodyWriter};
pub use handler::Handler;
pub use into_response::IntoResponse;
pub use request::{HeadersInOrder, Request};
pub use response::Response;
pub use upgrade::{Stopping, Upgraded};

pub(crate) use body::{Connection, Incoming, Kind};
pub(crate) use request::Came;
pub(crate) use response::{ContentType, Headers};
pub(crate) use spare::{came, header_map, keep_came, keep_header_map};
pub(crate) use upgrade::{TakeOver, Wire};
