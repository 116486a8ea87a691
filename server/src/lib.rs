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
//!
//! A [`Router`] puts such functions together by path and method, [`Handler::with`] puts [`Middleware`] around any of them.
//! [`Request`] takes queries, forms and JSON apart, failing with an [`Error`] that knows its status.

#![forbid(unsafe_code)]

pub mod app;
mod arbiter;
mod cli;
pub mod config;
mod control;
pub mod demo;
pub mod files;
pub mod gunicorn;
pub mod http;
pub mod log;
mod metrics;
pub mod router;
pub mod serve;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use ::cookie;
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
pub use app::{
    Addr, Body, BodyError, BodyWriter, Client, ClientLeft, Error, Handler, Html, IntoResponse, Json, Leaving,
    Middleware, Redirect, Request, Response, Stopping, TlsInfo, TlsVersion, Upgraded, after_response,
    limit_body, sse, time_limit,
};
pub use app::{Environ, ForwardedError, HeaderMapping, Networks};
pub use arbiter::{Hooks, WorkerInfo};
pub use cli::{main, main_with, program};
/// Locks, counters and small values that all workers share: made before the workers are, in `main` say (uWSGI's `lock`).
pub use greenlet::shm as shared;
pub use router::Router;
pub use serve::{AccessLog, Exchange, Protocol, Server, ServerHandle};
pub use std::process::ExitCode;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
