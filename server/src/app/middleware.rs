//! What stands around a handler.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;

use super::{Handler, IntoResponse, Request, Response};

/// What stands around a handler: it sees the request before and the response after, and decides whether the handler is
/// asked at all. [`Handler::with`] puts it there.
///
/// Every `Fn(Request, &dyn Handler) -> impl IntoResponse` is one.
///
/// ```
/// use greenserve::{Body, Handler, IntoResponse, Request, Response, StatusCode};
///
/// fn with_key(req: Request, next: &dyn Handler) -> Response {
///     match req.header("x-key") {
///         Some(b"secret") => next.call(req),
///         _ => StatusCode::FORBIDDEN.into_response(),
///     }
/// }
///
/// let guarded = (|_: Request| "the treasure").with(with_key);
/// assert_eq!(guarded.call(Request::new(Body::empty())).status(), 403);
/// ```
pub trait Middleware: 'static {
    /// Answers one request, mostly by asking `next`.
    fn call(&self, req: Request, next: &dyn Handler) -> Response;
}

impl<F, R> Middleware for F
where
    F: Fn(Request, &dyn Handler) -> R + 'static,
    R: IntoResponse,
{
    fn call(&self, req: Request, next: &dyn Handler) -> Response {
        self(req, next).into_response()
    }
}

impl<M: Middleware + ?Sized> Middleware for Rc<M> {
    fn call(&self, req: Request, next: &dyn Handler) -> Response {
        (**self).call(req, next)
    }
}

impl<M: Middleware + ?Sized> Middleware for Arc<M> {
    fn call(&self, req: Request, next: &dyn Handler) -> Response {
        (**self).call(req, next)
    }
}

/// A handler with something around it; see [`Handler::with`].
#[derive(Clone, Copy)]
pub struct With<H, M> {
    pub(super) handler: H,
    pub(super) middleware: M,
}

impl<H: Handler, M: Middleware> Handler for With<H, M> {
    fn call(&self, req: Request) -> Response {
        self.middleware.call(req, &self.handler)
    }
}

impl<H, M> fmt::Debug for With<H, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("With").finish_non_exhaustive()
    }
}

/// Lets the handler read bodies of up to `most` bytes. One that is announced to be larger is answered with 413 before the
/// handler is asked, and before the client is told to send it (`100 Continue`); one of unknown length fails where it is
/// read beyond, with [`BodyError::TooLarge`](super::BodyError::TooLarge), which is answered with 413 if the handler lets it
/// through.
///
/// Of several limits around a handler the smallest holds, and the server's `limit_request_body` is around all of them. It
/// takes the place of the 2 MiB that [`Request::json`] and the like allow by themselves.
///
/// ```
/// use greenserve::{Body, Handler, Request, limit_body};
///
/// let small = (|_: Request| "thanks").with(limit_body(10));
/// let post = |text: &'static str| Request::new(Body::from(text));
/// assert_eq!(small.call(post("ten bytes.")).status(), 200);
/// assert_eq!(small.call(post("eleven bytes")).status(), 413);
/// ```
pub fn limit_body(most: u64) -> LimitBody {
    LimitBody { most }
}

/// See [`limit_body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitBody {
    most: u64,
}

impl Middleware for LimitBody {
    fn call(&self, mut req: Request, next: &dyn Handler) -> Response {
        match req.body_mut().limit(self.most) {
            Ok(()) => next.call(req),
            Err(error) => error.into_response(),
        }
    }
}

/// Gives the handler so much time. When it is over the handler is unwound where it waits, its destructors run, and the
/// answer is 503; a handler that computes is not interrupted. What a streaming body does comes after the handler and is
/// not meant: the server's `request_timeout` bounds that, too.
///
/// Where OS threads serve (`-k threads`) it ends waits of `greenlet` (a sleep, a queue) but not those for the client or for
/// what blocks the thread: an OS thread can't be unwound from outside.
///
/// ```
/// use std::time::Duration;
/// use greenserve::{Body, Handler, Request, time_limit};
///
/// let slow = |_: Request| greenlet::sleep(Duration::from_secs(3600));
/// let bounded = slow.with(time_limit(Duration::from_millis(5)));
/// assert_eq!(bounded.call(Request::new(Body::empty())).status(), 503);
/// ```
pub fn time_limit(limit: Duration) -> TimeLimit {
    TimeLimit { limit }
}

/// See [`time_limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimit {
    limit: Duration,
}

impl Middleware for TimeLimit {
    fn call(&self, req: Request, next: &dyn Handler) -> Response {
        greenlet::timeout(self.limit, || next.call(req)).unwrap_or_else(|_| self.is_over())
    }
}

impl TimeLimit {
    #[cold]
    fn is_over(&self) -> Response {
        log::warn!("a handler was ended: it took longer than its {:?}", self.limit);
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::Body;

    fn marking(mark: &'static str, seen: &Rc<RefCell<Vec<String>>>) -> impl Middleware + use<> {
        let seen = Rc::clone(seen);
        move |req: Request, next: &dyn Handler| {
            seen.borrow_mut().push(format!("{mark} in"));
            let response = next.call(req);
            seen.borrow_mut().push(format!("{mark} out"));
            response
        }
    }

    #[test]
    fn the_last_one_put_around_is_the_outermost() {
        let seen = Rc::default();
        let handler = (|_: Request| "x").with(marking("a", &seen)).with(marking("b", &seen));
        handler.call(Request::new(Body::empty()));
        assert_eq!(*seen.borrow(), ["b in", "a in", "a out", "b out"]);
    }

    #[test]
    fn the_smallest_limit_around_a_handler_holds() {
        let read = |req: Request| req.into_body().into_bytes();
        let both = read.with(limit_body(3)).with(limit_body(9));
        let ask = |body: Body| both.call(Request::new(body)).status();
        assert_eq!((ask("abc".into()), ask("abcd".into())), (StatusCode::OK, StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(ask(Body::reader(&b"abcd"[..], None)), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
