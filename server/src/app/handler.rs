//! The one trait an application implements, mostly without knowing.

use std::rc::Rc;
use std::sync::Arc;

use super::{IntoResponse, Middleware, Request, Response, With};

/// An application: takes a request, gives a response.
///
/// Every `Fn(Request) -> impl IntoResponse` is one. A handler runs in its connection's green thread (or thread) and may
/// block as long as it likes: in a green thread only that connection waits. A panic in it is answered with 500, logged,
/// and harms no other connection.
///
/// ```
/// use greenserve::{Body, Handler, Request};
///
/// fn greet(req: Request) -> String {
///     format!("you asked for {}", req.path())
/// }
/// let response = greet.call(Request::new(Body::empty()));
/// assert_eq!(&response.into_body().into_bytes().unwrap()[..], b"you asked for /");
/// ```
pub trait Handler: 'static {
    /// Answers one request.
    fn call(&self, req: Request) -> Response;

    /// Puts something around this handler, which may be a whole router. The last that is put around is the outermost: in
    /// `handler.with(a).with(b)` requests reach `b`, then `a`, then the handler, and responses go the other way.
    fn with<M: Middleware>(self, middleware: M) -> With<Self, M>
    where
        Self: Sized,
    {
        With { handler: self, middleware }
    }
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + 'static,
    R: IntoResponse,
{
    fn call(&self, req: Request) -> Response {
        self(req).into_response()
    }
}

impl<H: Handler + ?Sized> Handler for Rc<H> {
    fn call(&self, req: Request) -> Response {
        (**self).call(req)
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn call(&self, req: Request) -> Response {
        (**self).call(req)
    }
}

impl Handler for Box<dyn Handler> {
    fn call(&self, req: Request) -> Response {
        (**self).call(req)
    }
}

impl Handler for Box<dyn Handler + Send + Sync> {
    fn call(&self, req: Request) -> Response {
        (**self).call(req)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, StatusCode};

    struct Teapot;

    impl Handler for Teapot {
        fn call(&self, _: Request) -> Response {
            StatusCode::IM_A_TEAPOT.into_response()
        }
    }

    #[test]
    fn pointers_to_handlers_are_handlers() {
        let boxed: Box<dyn Handler> = Box::new(Teapot);
        let shared: Arc<dyn Handler + Send + Sync> = Arc::new(Teapot);
        let both: Box<dyn Handler + Send + Sync> = Box::new(shared);
        let all: [Rc<dyn Handler>; 3] =
            [Rc::new(boxed), Rc::new(both), Rc::new(Rc::new(|_: Request| "").with(no))];
        assert!(all.iter().all(|handler| handler.call(Request::new(Body::empty())).status() == 418));
    }

    fn no(req: Request, _: &dyn Handler) -> Response {
        Teapot.call(req)
    }
}
