//! What routers have found for a request, and how a handler asks for it.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use ::http::StatusCode;

use super::{Error, Request};

/// What the routers on the way to a handler have found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matched {
    /// Their patterns, one behind the other.
    route: Option<Arc<str>>,
    /// Names and decoded values, the outermost router's first.
    params: Vec<(Arc<str>, Box<str>)>,
    /// How much of the path they have used up.
    mount: usize,
}

impl Matched {
    /// One router has found this; `used` is how much of the rest of the path its nest stands for.
    pub(crate) fn enter(&mut self, pattern: &Arc<str>, params: Vec<(Arc<str>, Box<str>)>, used: usize) {
        self.route = Some(match &self.route {
            None => Arc::clone(pattern),
            Some(outer) if pattern.is_empty() => Arc::clone(outer),
            Some(outer) => format!("{outer}{pattern}").into(),
        })
        .filter(|route| !route.is_empty());
        if self.params.is_empty() {
            self.params = params;
        } else {
            self.params.extend(params);
        }
        self.mount += used;
    }

    /// All patterns so far.
    pub(crate) fn route(&self) -> Option<&Arc<str>> {
        self.route.as_ref()
    }
}

/// What a [`Router`](crate::Router) has found for this request. It stays with the request when it becomes one of the
/// `http` crate's and one of ours again.
impl Request {
    pub(crate) fn matched_mut(&mut self) -> &mut Matched {
        self.matched.get_or_insert_default()
    }

    /// The pattern of the route that was taken, with those of the nests around it in front: `/api/users/{id}`. There are as
    /// many of them as routes, whatever clients ask for: a name for metrics and logs. `None` without a router, and in the
    /// fallback of one that is not nested.
    pub fn route(&self) -> Option<&str> {
        self.matched.as_ref()?.route.as_deref()
    }

    /// A parameter of the route, with its percent-encoding taken off. `None` if the route has none of that name; of several
    /// the innermost router's.
    ///
    /// It is what the client has chosen to send: a `/` may be in it (sent as `%2F`), or be all of it, so may `..` or a NUL. What
    /// makes a path of it has to look at that; [`StaticFiles`](crate::files::StaticFiles) does.
    pub fn param(&self, name: &str) -> Option<&str> {
        let params = &self.matched.as_ref()?.params;
        params.iter().rev().find(|(found, _)| **found == *name).map(|(_, value)| &**value)
    }

    /// The parameter as a number or whatever else can be read from text.
    ///
    /// # Errors
    /// 404 if it can't be read as that: nothing has such a name. 500 if the route has no such parameter.
    ///
    /// ```
    /// use greenserve::{Body, Error, Handler, Request, Router};
    ///
    /// fn double(req: Request) -> Result<String, Error> {
    ///     let n: u32 = req.param_as("n")?;
    ///     Ok(format!("{}", 2 * n))
    /// }
    /// let router = Router::new().get("/double/{n}", double);
    /// let ask = |path| router.call(http::Request::get(path).body(Body::empty()).unwrap().into());
    /// assert_eq!(&ask("/double/21").into_body().into_bytes().unwrap()[..], b"42");
    /// assert_eq!(ask("/double/me").status(), 404);
    /// ```
    pub fn param_as<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Error> {
        let Some(value) = self.param(name) else {
            let route = self.route().unwrap_or("no route");
            let text = format!("{route} was taken, which has no parameter {name}");
            return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, text));
        };
        value.parse().map_err(|error| {
            Error::new(StatusCode::NOT_FOUND, format!("{name} in the path can't be right: {error}"))
        })
    }

    /// All parameters of the route, the outermost router's first.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.matched.iter().flat_map(|matched| matched.params.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// The part of the path that the nests around this handler stand for (`SCRIPT_NAME` of CGI and WSGI): empty, or what begins
    /// with a slash and does not end in one. Still percent-encoded; together with [`path_info`](Request::path_info) it is
    /// [`path`](Request::path).
    pub fn script_name(&self) -> &str {
        let mount = self.matched.as_ref().map_or(0, |matched| matched.mount);
        self.path().get(..mount).unwrap_or_default()
    }

    /// The rest of the path, which is for this handler to look at (`PATH_INFO` of CGI and WSGI): all of it where nothing is
    /// nested. Still percent-encoded. Empty where the request was for the nest itself, without a slash at its end.
    pub fn path_info(&self) -> &str {
        &self.path()[self.script_name().len()..]
    }
}
