//! The one trait an application implements, mostly without knowing.

use super::{IntoResponse, Request, Response};

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
