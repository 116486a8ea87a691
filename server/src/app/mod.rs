//! What an application sees: requests, responses, bodies and the traits between them and a handler.
//!
//! This room knows nothing of sockets, of how a message is framed on the wire or of how a connection lives: an incoming
//! body reaches its connection through one small trait object (`Connection`). Everything here can be made by hand, so
//! that handlers are tested without a server.

mod addr;
mod after;
mod body;
mod client;
mod cookies;
mod environ;
mod error;
mod extract;
mod forwarded;
mod handler;
mod into_response;
mod matched;
mod middleware;
mod multipart;
mod reply;
mod request;
mod response;
mod spare;
pub mod sse;
mod tls;
mod upgrade;
mod writer;

pub use addr::Addr;
pub use after::after_response;
pub use body::{Body, BodyError};
pub use client::{Client, ClientLeft, Leaving};
pub use environ::Environ;
pub use error::Error;
pub use forwarded::{ForwardedError, HeaderMapping, Networks};
pub use handler::Handler;
pub use into_response::IntoResponse;
pub use middleware::{LimitBody, Middleware, TimeLimit, With, limit_body, time_limit};
pub use multipart::{Multipart, Part};
pub use reply::{Html, Json, Redirect};
pub use request::{HeadersInOrder, Request};
pub use response::Response;
pub use tls::{TlsInfo, TlsVersion};
pub use upgrade::{Stopping, Upgraded};
pub use writer::BodyWriter;

pub(crate) use after::{has_work_after, next_work_after};
pub(crate) use body::{Connection, Incoming, Kind};
pub(crate) use forwarded::{Origin, Trust};
pub(crate) use request::Came;
pub(crate) use response::{ContentType, Headers};
pub(crate) use spare::{came, header_map, keep_came, keep_header_map};
pub(crate) use upgrade::{TakeOver, Wire};
