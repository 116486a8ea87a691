//! The demo application: an inspector of requests in the manner of httpbin, to probe a server with.
//!
//! It is also the example of how to write an application, so it uses nothing but the public interface. `ROUTES` is
//! the one list of what it answers; each route's function stands in the file of its kind: `inspect` tells what
//! the application saw, `bodies` makes bodies of every sort, `waits` takes time, `live` goes
//! on, `mischief` misbehaves.
//!
//! Every response that the application makes carries `X-App: 1`, errors of its own included. What the server makes
//! by itself does not: a 4xx for a malformed request, a 500 after a panic, the answer to an error of reading a body,
//! which the application lets through. No request can ask for an absurd amount: each query value has its bounds.

mod bodies;
mod inspect;
mod live;
mod mischief;
mod page;
mod query;
mod waits;

use std::io;

use ::http::header::{ALLOW, HeaderName, HeaderValue};
use ::http::{Method, StatusCode};

use self::query::BadQuery;
use crate::config::WorkerClass;
use crate::{ForwardedError, Handler, IntoResponse, Request, Response};

/// The demo application. It wants to know what serves it, because sleeping is done differently there.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    worker_class: WorkerClass,
}

impl Demo {
    /// The application for a worker of that class.
    pub fn new(worker_class: WorkerClass) -> Self {
        Self { worker_class }
    }

    fn answer(&self, req: Request) -> Answer {
        let path = req.path();
        let Some(route) = ROUTES.iter().find(|route| route.matches(path)) else {
            return inspect::echo(StatusCode::NOT_FOUND, req);
        };
        if !route.allows(req.method()) {
            let mut refusal = StatusCode::METHOD_NOT_ALLOWED.into_response();
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
            return Ok(refusal);
        }
        (route.run)(self, req)
    }
}

impl Handler for Demo {
    fn call(&self, req: Request) -> Response {
        let mut response = match self.answer(req) {
            Ok(response) => response,
            Err(Failure::BadQuery(BadQuery(text))) => (StatusCode::BAD_REQUEST, text + "\n").into_response(),
            // not the application's answer, so not marked as such
            Err(Failure::Io(error)) => return error.into_response(),
        };
        response.headers_mut().insert(X_APP, HeaderValue::from_static("1"));
        response
    }
}

const X_APP: HeaderName = HeaderName::from_static("x-app");

/// One line of the inspector's table of contents.
struct Route {
    /// `GET`, `POST`, or `ANY`.
    method: &'static str,
    /// The path; one that ends in `*` stands for all that begin so.
    path: &'static str,
    /// What may follow, as an example that works.
    example: &'static str,
    /// What it does, for the page.
    what: &'static str,
    run: fn(&Demo, Request) -> Answer,
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == self.path,
        }
    }

    fn allows(&self, method: &Method) -> bool {
        match self.method {
            "GET" => method == Method::GET || method == Method::HEAD,
            "POST" => method == Method::POST,
            _ => true,
        }
    }

    fn allow(&self) -> &'static str {
        if self.method == "GET" { "GET, HEAD" } else { self.method }
    }
}

/// What a route's function gives.
type Answer = Result<Response, Failure>;

/// Why a route has no answer.
enum Failure {
    /// The query is wrong: 400, made by the application.
    BadQuery(BadQuery),
    /// The body cannot be read, or a response not be made: the server answers.
    Io(io::Error),
}

impl From<BadQuery> for Failure {
    fn from(error: BadQuery) -> Self {
        Failure::BadQuery(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<ForwardedError> for Failure {
    fn from(error: ForwardedError) -> Self {
        Failure::Io(error.into())
    }
}

/// Everything the inspector answers.
const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/",
        example: "",
        what: "this page",
        run: |_, _| Ok(([("content-type", "text/html; charset=utf-8")], page::html()).into_response()),
    },
    Route {
        method: "ANY",
        path: "/echo*",
        example: "/hello?a=1",
        what: "what the application saw of the request, as JSON, after reading the whole body",
        run: |_, req| inspect::echo(StatusCode::OK, req),
    },
    Route {
        method: "GET",
        path: "/whoami",
        example: "",
        what: "the connection's addresses, the green thread and the process, as JSON",
        run: inspect::whoami,
    },
    Route {
        method: "GET",
        path: "/vars",
        example: "",
        what: "the variables that came with the request by the uwsgi protocol, as JSON; null over HTTP",
        run: inspect::vars,
    },
    Route {
        method: "GET",
        path: "/environ",
        example: "?a=1",
        what: "the request's CGI variables, and where it came from as trusted proxies tell, as JSON",
        run: inspect::environ,
    },
    Route {
        method: "GET",
        path: "/tls",
        example: "",
        what: "what the TLS handshake came to, as JSON; null without TLS",
        run: inspect::tls,
    },
    Route {
        method: "GET",
        path: "/plaintext",
        example: "",
        what: "Hello, World!",
        run: |_, _| Ok("Hello, World!".into_response()),
    },
    Route {
        method: "GET",
        path: "/stream",
        example: "?n=10&size=20&delay_ms=100&empty=0",
        what: "n writes of size bytes, undeclared length; empty=1 puts an empty write around each",
        run: bodies::stream,
    },
    Route {
        method: "GET",
        path: "/fixed",
        example: "?n=1000",
        what: "n bytes with Content-Length",
        run: bodies::fixed,
    },
    Route {
        method: "GET",
        path: "/no-length",
        example: "",
        what: "a short body of undeclared length",
        run: bodies::no_length,
    },
    Route {
        method: "GET",
        path: "/bad-length",
        example: "?declared=10&actual=5",
        what: "a body that breaks its word",
        run: bodies::bad_length,
    },
    Route {
        method: "POST",
        path: "/upload",
        example: "",
        what: "reads the whole body: its SHA-256 and length, as JSON",
        run: bodies::upload,
    },
    Route {
        method: "POST",
        path: "/ignore-body",
        example: "",
        what: "answers without touching the body",
        run: |_, _| Ok("the body was not read\n".into_response()),
    },
    Route {
        method: "ANY",
        path: "/status/*",
        example: "418",
        what: "that status, from 200 to 599",
        run: inspect::status,
    },
    Route {
        method: "GET",
        path: "/sleep",
        example: "?ms=100",
        what: "parks the green thread for so long",
        run: waits::sleep,
    },
    Route {
        method: "GET",
        path: "/block",
        example: "?ms=100",
        what: "blocks the whole hub for so long, on purpose",
        run: waits::block,
    },
    Route {
        method: "GET",
        path: "/burn",
        example: "?ms=100",
        what: "computes for so long",
        run: waits::burn,
    },
    Route {
        method: "GET",
        path: "/events",
        example: "?n=10&delay_ms=100",
        what: "n server-sent events, numbered on from Last-Event-ID",
        run: live::events,
    },
    Route {
        method: "GET",
        path: "/ws",
        example: "",
        what: "a WebSocket that sends each message back",
        run: live::echo,
    },
    Route {
        method: "GET",
        path: "/upgrade",
        example: "",
        what: "to Upgrade: echo, a connection that sends each byte back",
        run: live::upgrade,
    },
    Route {
        method: "GET",
        path: "/live",
        example: "",
        what: "a page that tries all this from a browser",
        run: live::page,
    },
    Route {
        method: "GET",
        path: "/panic",
        example: "",
        what: "panics before the head is sent",
        run: |_, _| panic!("the demo panics, as it was asked to"),
    },
    Route {
        method: "GET",
        path: "/panic-mid",
        example: "",
        what: "panics after the first chunk",
        run: mischief::panic_mid,
    },
    Route {
        method: "GET",
        path: "/leak",
        example: "?mib=0",
        what: "takes so many MiB of memory, up to 1024, for ever",
        run: mischief::leak,
    },
    Route {
        method: "GET",
        path: "/overflow",
        example: "",
        what: "recurses without end: kills the process, with a report",
        run: mischief::overflow,
    },
    Route {
        method: "GET",
        path: "/bad-header",
        example: "?where=value-crlf",
        what: "tries to inject a header: value-crlf, value-lf, value-cr, value-nul or name-crlf",
        run: mischief::bad_header,
    },
];

#[cfg(test)]
mod tests;
