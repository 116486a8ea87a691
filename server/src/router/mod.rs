//! Which handler answers which path and method.
//!
//! What lives here: [`Router`], the table it looks paths up in (by the `matchit` crate), and the form that paths are compared
//! in. A router is a [`Handler`] like any other, so it knows nothing of what stands around it or of who serves it; what it
//! has found goes into the request (`app::Matched`), where handlers ask for it. No file, no socket and no middleware
//! enters this room.

mod methods;
mod path;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;

use ::http::{Method, StatusCode, header};

pub use methods::Methods;

use self::table::{Found, Table};
use crate::app::{Handler, IntoResponse, Request, Response};

/// Routes requests to handlers by path and method.
///
/// ```
/// use greenserve::{Body, Handler, Request, Router};
///
/// fn user(req: Request) -> String {
///     format!("user {}", req.param("id").unwrap_or_default())
/// }
///
/// let users = Router::new().get("/{id}", user).post("/", |_: Request| "made");
/// let site = Router::new().get("/", |_: Request| "home").nest("/users", users);
///
/// let get = |path| site.call(http::Request::get(path).body(Body::empty()).unwrap().into());
/// assert_eq!(&get("/users/7").into_body().into_bytes().unwrap()[..], b"user 7");
/// assert_eq!(get("/users/").status(), 405);
/// assert_eq!(get("/nowhere").status(), 404);
/// ```
///
/// # Paths
/// A pattern begins with a slash. `{name}` in it stands for one segment or a part of one (`/{name}.json`), `{*name}` at its end
/// for all that follows; neither stands for nothing. `{{` and `}}` are the braces themselves. Of several that match, the
/// one that is more literal, from the left, is taken: `/users/me` before `/users/{id}`, that before `/{*rest}`. The order
/// in which routes are added does not matter. [`Request::param`] gives what a name stands for, [`Request::route`] the
/// pattern.
///
/// Paths are compared as RFC 3986 (6.2.2) says: `%7E` is `~`, and `é` in a pattern is what clients send as `%C3%A9`; but a
/// `%2F` is no slash: it is a part of its segment. Nothing else is done to a path. `/users` and `/users/` are two, of which
/// the one without a route is 404; `//` has an empty segment in it, and `..` is a segment like others. A parameter
/// that is not UTF-8 once decoded is answered with 400.
///
/// `http://host/path` as a target is the path. `OPTIONS *` is answered with 204 unless there is a route for `*`. `CONNECT`
/// has no path and goes to the fallback.
///
/// # Methods
/// First the path is looked up, then the method. `HEAD` is answered by the handler of `GET` if it has none of its own; what has
/// no handler by that of [`any`](Router::any); `OPTIONS`, if nothing else is left, with 204 and `Allow`; all others with
/// 405 and `Allow`.
///
/// # Handlers
/// A handler is any [`Handler`]: a function, a closure that has captured what it needs, another router, or one of these with
/// [middleware](crate::Middleware) around it. What is put around a router by [`Handler::with`] sees all that comes to it,
/// whether there is a route or not; the route is known on its way back only: [`Response::route`].
///
/// [`Router::new`] makes one whose handlers are `Send + Sync`: state is shared by `Arc`, and [`greenserve::main`](crate::main)
/// and [`Server::serve_threads`](crate::Server::serve_threads) take it. [`Router::local`] makes one that takes any
/// handlers, as closures with an `Rc` in them, for [`Server::serve`](crate::Server::serve).
pub struct Router<H: ?Sized = dyn Handler + Send + Sync> {
    table: Table,
    handlers: Vec<Box<H>>,
    fallback: Option<Box<H>>,
}

/// A kind of handlers (`dyn Handler`, or `dyn Handler + Send + Sync`) that a `Handler` of type `F` is one of. There is nothing
/// to implement it for.
#[diagnostic::on_unimplemented(
    message = "`{F}` can't be a handler of this router",
    note = "a handler is a `Fn(Request) -> impl IntoResponse` or a `Handler`",
    note = "the handlers of `Router::new()` are `Send + Sync`; those of `Router::local()` need not be"
)]
pub trait Holds<F>: Handler {
    #[doc(hidden)]
    fn hold(handler: F) -> Box<Self>;
}

impl<F: Handler> Holds<F> for dyn Handler {
    fn hold(handler: F) -> Box<Self> {
        Box::new(handler)
    }
}

impl<F: Handler + Send + Sync> Holds<F> for dyn Handler + Send + Sync {
    fn hold(handler: F) -> Box<Self> {
        Box::new(handler)
    }
}

impl Router {
    /// A router without routes, whose handlers are `Send + Sync`.
    pub fn new() -> Router {
        Router::empty()
    }
}

impl Default for Router {
    fn default() -> Router {
        Router::new()
    }
}

impl Router<dyn Handler> {
    /// A router without routes, whose handlers stay on one thread.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use greenserve::{Request, Router};
    ///
    /// let count = Rc::new(Cell::new(0));
    /// let router = Router::local().get("/count", move |_: Request| {
    ///     count.set(count.get() + 1);
    ///     count.get().to_string()
    /// });
    /// # fn serve(router: Router<dyn greenserve::Handler>) -> std::io::Result<()> {
    /// greenserve::Server::bind("127.0.0.1:8000")?.serve(router)
    /// # }
    /// ```
    pub fn local() -> Router<dyn Handler> {
        Router::empty()
    }
}

macro_rules! for_method {
    ($($name:ident $method:ident)*) => {$(
        #[doc = concat!("Has `handler` answer `", stringify!($method), "` on paths that match `path`; see [`Router::route`].")]
        ///
        /// # Panics
        /// As [`Router::route`].
        #[track_caller]
        pub fn $name<F>(self, path: &str, handler: F) -> Self
        where
            H: Holds<F>,
        {
            self.route(Method::$method, path, handler)
        }
    )*};
}

impl<H: ?Sized + Handler> Router<H> {
    fn empty() -> Router<H> {
        Router { table: Table::default(), handlers: Vec::new(), fallback: None }
    }

    for_method! { get GET  head HEAD  post POST  put PUT  patch PATCH  delete DELETE  options OPTIONS }

    /// Has `handler` answer these methods (one, or an array of them) on paths that match `path`.
    ///
    /// # Panics
    /// If `path` is no pattern, if a pattern that was there before matches the same paths under other names, or if that path
    /// has a handler for the method already. The message names both routes.
    #[track_caller]
    pub fn route<F>(mut self, methods: impl Methods, path: &str, handler: F) -> Self
    where
        H: Holds<F>,
    {
        self.table.route(methods.methods().into_iter().collect(), path, self.handlers.len());
        self.handlers.push(H::hold(handler));
        self
    }

    /// Has `handler` answer what no other handler does on paths that match `path`, whatever the method.
    ///
    /// # Panics
    /// As [`Router::route`].
    #[track_caller]
    pub fn any<F>(mut self, path: &str, handler: F) -> Self
    where
        H: Holds<F>,
    {
        self.table.any(path, self.handlers.len());
        self.handlers.push(H::hold(handler));
        self
    }

    /// Has `handler`, mostly another router, answer everything at `prefix` and below: `/api`, `/api/` and `/api/…`, but for
    /// what this router has more literal routes. `/` is everything.
    ///
    /// The prefix may have parameters, which go to the handler together with its own. The handler sees the whole path in
    /// [`Request::path`], what is left for it in [`Request::path_info`], and the prefix in [`Request::script_name`]. A router
    /// looks up the rest, for which `/api` and `/api/` are both its `/`. It answers with its own fallback what it has no
    /// route for.
    ///
    /// # Panics
    /// As [`Router::route`], and if the prefix ends in a slash or has a `{*name}`.
    #[track_caller]
    pub fn nest<F>(mut self, prefix: &str, handler: F) -> Self
    where
        H: Holds<F>,
    {
        self.table.nest(prefix, self.handlers.len());
        self.handlers.push(H::hold(handler));
        self
    }

    /// Has `handler` answer what there is no route for, in place of a 404. The last one set holds.
    pub fn fallback<F>(mut self, handler: F) -> Self
    where
        H: Holds<F>,
    {
        self.fallback = Some(H::hold(handler));
        self
    }
}

impl<H: ?Sized + Handler> Handler for Router<H> {
    fn call(&self, mut req: Request) -> Response {
        let (handler, route) = match (self.table.find(&mut req), &self.fallback) {
            (Found::Handler(at, route), _) => (&*self.handlers[at], route),
            (Found::Nothing, Some(fallback)) => (&**fallback, None),
            (found, _) => return without_handler(req.method(), found),
        };
        let mut response = handler.call(req);
        if let Some(route) = route {
            response.note_route(route);
        }
        response
    }
}

/// The routes, one a line, as they are tried for.
impl<H: ?Sized> fmt::Debug for Router<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("routes", &self.table).finish_non_exhaustive()
    }
}

/// What a router answers by itself.
#[cold]
#[inline(never)]
fn without_handler(method: &Method, found: Found) -> Response {
    match found {
        Found::Refused(allow, route) => {
            let mut response = match *method {
                Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
                _ => (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response(),
            };
            if let Some(route) = route {
                response.note_route(route);
            }
            ([(header::ALLOW, allow)], response).into_response()
        }
        Found::NotUtf8(name) => {
            (StatusCode::BAD_REQUEST, format!("{name} in the path is not UTF-8\n")).into_response()
        }
        // There is no resource of which CONNECT could not be allowed: it is not implemented (RFC 9110, 15.6.2).
        _ if *method == Method::CONNECT => (StatusCode::NOT_IMPLEMENTED, "Not Implemented\n").into_response(),
        _ => (StatusCode::NOT_FOUND, "Not Found\n").into_response(),
    }
}
