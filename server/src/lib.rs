//! An HTTP/1.1 server that gives each connection a green thread, so that handlers are plain blocking functions.
//!
//! An application is any `Fn(Request) -> impl IntoResponse`. [`Request`] and [`Response`] have the methods of the `http` crate's
//! types, and convert to these; their [`Body`] reads with [`std::io::Read`] and streams with [`std::io::Write`].
//!
//! ```
//! use greenserve::{Body, IntoResponse, Request, Response, StatusCode};
//! use std::io::Write;
//!
//! fn app(req: Request) -> Response {
//!     match req.path() {
//!         "/" => "Hello, World!".into_response(),
//!         "/stream" => Body::stream(|out| out.write_all(b"piece by piece\n")).into_response(),
//!         _ => StatusCode::NOT_FOUND.into_response(),
//!     }
//! }
//! ```

#![forbid(unsafe_code)]

pub mod app;
mod cli;
pub mod config;
pub mod demo;
pub mod files;
pub mod http;
pub mod log;
pub mod serve;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
pub use app::{
    Addr, Body, BodyError, BodyWriter, Handler, IntoResponse, Request, Response, Stopping, Upgraded, sse,
};
pub use cli::{main, program};
pub use serve::{AccessLog, Exchange, Server, ServerHandle};
pub use std::process::ExitCode;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
