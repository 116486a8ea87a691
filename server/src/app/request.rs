//! What a handler is asked.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use ::http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request,
};
use bytes::Bytes;

use super::matched::Matched;
use super::{Addr, Body, Client, Connection, Incoming, TlsInfo, spare};
use crate::http::uwsgi::Vars;
use crate::http::{Head, Lines, encode_interim, protocols};

/// A request as a handler gets it: what [`http::Request`](::http::Request) is, method by method, with our [`Body`].
///
/// It is a type of its own since it makes only what is asked for. [`path`](Request::path), [`query`](Request::query) and
/// [`header`](Request::header) look into the head as it came; [`uri`](Request::uri) and [`headers`](Request::headers) make
/// the `http` crate's `Uri` and `HeaderMap` when they are first called, and keep them. `From` leads to the `http` crate's
/// request and back.
///
/// ```
/// use greenserve::{Body, Request};
///
/// let req = Request::from(http::Request::get("/a?b=c").header("x-a", "1").body(Body::empty())?);
/// assert_eq!((req.path(), req.query()), ("/a", Some("b=c")));
/// assert_eq!(req.header("X-A"), Some(&b"1"[..]));
/// assert_eq!(req.headers()["x-a"], "1");
/// # Ok::<_, http::Error>(())
/// ```
///
/// Its `Debug` form shows `Sensitive` in place of the values of `Authorization`, `Proxy-Authorization` and `Cookie`.
pub struct Request {
    head: Source,
    body: Body,
    /// What routers have found for it.
    pub(super) matched: Option<Box<Matched>>,
}

enum Source {
    /// From a client, untouched.
    Came(Rc<Came>),
    /// Made by hand, or changed.
    Own(Box<Own>),
}

struct Own {
    parts: request::Parts,
    /// What it was before.
    came: Option<Rc<Came>>,
}

impl Request {
    /// `GET /` without headers, to be changed by the methods ending in `_mut`. `http::Request::builder()` and `From` make
    /// any other.
    pub fn new(body: Body) -> Request {
        ::http::Request::new(body).into()
    }

    pub(crate) fn incoming(came: Rc<Came>, connection: Rc<dyn Connection>, request: u64) -> Request {
        Request {
            head: Source::Came(came),
            body: Body::from(Incoming { connection, request }),
            matched: None,
        }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        match &self.head {
            Source::Came(came) => &came.head.method,
            Source::Own(own) => &own.parts.method,
        }
    }

    /// The method, to be changed.
    pub fn method_mut(&mut self) -> &mut Method {
        &mut self.own().method
    }

    /// The request target.
    pub fn uri(&self) -> &Uri {
        match &self.head {
            Source::Came(came) => came.uri(),
            Source::Own(own) => &own.parts.uri,
        }
    }

    /// The request target, to be changed.
    pub fn uri_mut(&mut self) -> &mut Uri {
        &mut self.own().uri
    }

    /// The path, as [`Uri::path`] has it: still percent-encoded, empty for `CONNECT`, `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        match &self.head {
            Source::Came(came) if came.is_origin_form() => came.part(came.target().start..came.path_end()),
            _ => self.uri().path(),
        }
    }

    /// What stands behind the target's `?`, if there is one: still percent-encoded.
    pub fn query(&self) -> Option<&str> {
        match &self.head {
            Source::Came(came) if came.is_origin_form() => {
                let (mark, end) = (came.path_end(), came.target().end);
                (mark < end).then(|| came.part(mark + 1..end))
            }
            _ => self.uri().query(),
        }
    }

    /// Whom the client asks, as `host` or `host:port`: what a target in absolute or authority form says, and only for others
    /// the `Host` field, for the target wins if the two differ (RFC 9112, 3.2.2). `None` in HTTP/1.0 without either.
    pub fn authority(&self) -> Option<&str> {
        match &self.head {
            Source::Came(came) if came.is_origin_form() => None,
            _ => self.uri().authority().map(|authority| authority.as_str()),
        }
        .or_else(|| std::str::from_utf8(self.header("host")?).ok())
    }

    /// The version: 1.0 or 1.1 from a client.
    pub fn version(&self) -> Version {
        match &self.head {
            Source::Came(came) => came.head.version,
            Source::Own(own) => own.parts.version,
        }
    }

    /// The version, to be changed.
    pub fn version_mut(&mut self) -> &mut Version {
        &mut self.own().version
    }

    /// The value of the first header of that name, compared without regard to case. It may hold bytes above 0x7f, of which
    /// nothing says what they are.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        match &self.head {
            Source::Came(came) => came.header(name),
            Source::Own(own) => own.parts.headers.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        match &self.head {
            Source::Came(came) => came.headers(),
            Source::Own(own) => &own.parts.headers,
        }
    }

    /// The headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.own().headers
    }

    /// What others have attached to this request; nothing when it comes.
    pub fn extensions(&self) -> &Extensions {
        match &self.head {
            Source::Came(came) => &came.extensions,
            Source::Own(own) => &own.parts.extensions,
        }
    }

    /// Where others attach what they like to this request.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.own().extensions
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to be read or replaced.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The `http` crate's parts, and the body. What a router has found is among the extensions, and comes back from there.
    pub fn into_parts(self) -> (request::Parts, Body) {
        let mut parts = match self.head {
            Source::Own(own) => own.parts,
            Source::Came(came) => Own::of(&came).parts,
        };
        if let Some(matched) = self.matched {
            parts.extensions.insert(*matched);
        }
        (parts, self.body)
    }

    /// The other way round.
    pub fn from_parts(mut parts: request::Parts, body: Body) -> Request {
        let matched = parts.extensions.remove().map(Box::new);
        Request { head: Source::Own(Box::new(Own { parts, came: None })), body, matched }
    }

    /// The peer's address: of the socket, or what the PROXY protocol says in its place, or by the uwsgi protocol the one that the
    /// front server names. Behind a proxy that speaks HTTP it is the proxy's, see [`Request::client_addr`]. `None` for a request
    /// made by hand, or one whose body was replaced, and if a front server names none (its own is nobody's who asks).
    pub fn peer_addr(&self) -> Option<Addr> {
        let connection = &self.body.as_incoming()?.connection;
        match connection.vars() {
            Some(vars) => vars.client().map(Addr::Inet),
            None => Some(connection.peer_addr()),
        }
    }

    /// The variables that came with the request by the uwsgi protocol: `REMOTE_USER`, `SCRIPT_NAME`, `HTTPS`, and what else the
    /// front server was told to send. `None` over HTTP, and as for [`Request::peer_addr`].
    ///
    /// The method, the target and the header fields among them are the request's own as well, in the forms of HTTP.
    pub fn vars(&self) -> Option<&Vars> {
        self.body.as_incoming()?.connection.vars()
    }

    /// The address at which the client reached this server. `None` as for [`Request::peer_addr`].
    pub fn local_addr(&self) -> Option<Addr> {
        self.body.as_incoming()?.connection.local_addr()
    }

    /// What is known of the TLS connection that it came over: version, cipher suite, the name asked for, the client's
    /// certificates. `None` if it came over none, and as for [`Request::peer_addr`].
    pub fn tls(&self) -> Option<Rc<TlsInfo>> {
        self.body.as_incoming()?.connection.tls()
    }

    /// The client, to be asked whether it is still there. A handle of its own, so that the body can be read meanwhile.
    pub fn client(&self) -> Client {
        let incoming = self.body.as_incoming();
        Client::new(incoming.map(|incoming| (Rc::clone(&incoming.connection), incoming.request)))
    }

    /// Sends `103 Early Hints` (RFC 8297) at once, so that the client can begin to load what the answer will need (gunicorn's
    /// `wsgi.early_hints`). May be called several times, before the answer is begun. An HTTP/1.0 client does not know what
    /// that is and gets nothing, nor does one that nobody knows: of a request made by hand, or whose body was replaced.
    /// Parks if the client takes nothing.
    ///
    /// ```
    /// # use greenserve::{Request, Response, IntoResponse};
    /// fn app(req: Request) -> std::io::Result<&'static str> {
    ///     req.early_hints([("link", "</style.css>; rel=preload; as=style")])?;
    ///     Ok("the page that took some time to make")
    /// }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a name or value that is none, or if the answer has begun; `NotConnected` once it is finished; those
    /// of writing to a client that has left.
    pub fn early_hints<K, V>(&self, headers: impl IntoIterator<Item = (K, V)>) -> io::Result<()>
    where
        K: TryInto<HeaderName, Error: fmt::Display>,
        V: TryInto<HeaderValue, Error: fmt::Display>,
    {
        let invalid = |error: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("no field for early hints: {error}"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = name.try_into().map_err(|error| invalid(&error))?;
            map.append(name, value.try_into().map_err(|error| invalid(&error))?);
        }
        let Some(incoming) = self.body.as_incoming().filter(|_| self.version() >= Version::HTTP_11) else {
            return Ok(());
        };
        let mut head = Vec::new();
        encode_interim(&mut head, StatusCode::EARLY_HINTS, &map);
        incoming.connection.send_interim(incoming.request, &head)
    }

    /// Whether the server has been told to stop. What would go on for long should come to its end then; after the graceful
    /// timeout it is cut off. False for a request made by hand.
    pub fn is_server_stopping(&self) -> bool {
        self.body.as_incoming().is_some_and(|incoming| incoming.connection.is_stopping())
    }

    /// The protocols that the client offers to change to, in its order (RFC 9110, 7.8): those in `Upgrade`, if `Connection`
    /// names it and the version is 1.1. [`Response::upgrade`](super::Response::upgrade) accepts one.
    pub fn upgrade_protocols(&self) -> Vec<&str> {
        protocols(self.version(), self.headers_in_order())
    }

    /// The request target, byte for byte as it came: `/a%20b?c`, `http://host/a`, `host:443` or `*` (RFC 9112, 3.2). For a
    /// request made by hand that of its `Uri`.
    pub fn raw_target(&self) -> Cow<'_, str> {
        match self.came() {
            Some(came) => String::from_utf8_lossy(&came.bytes()[came.target()]),
            None => Cow::Owned(self.uri().to_string()),
        }
    }

    /// The path with its percent-encoding taken off, as bytes since nothing says that they are UTF-8. A `%` that no two
    /// hexadecimal digits follow stands for itself. Empty for `CONNECT`.
    pub fn path_decoded(&self) -> Cow<'_, [u8]> {
        percent_encoding::percent_decode_str(self.path()).into()
    }

    /// The headers in order of arrival with names spelled as they came, repeated ones each time. For a request made by hand
    /// those of its map.
    pub fn headers_in_order(&self) -> HeadersInOrder<'_> {
        HeadersInOrder(match self.came() {
            Some(came) => Fields::Came(Lines::new(came.bytes())),
            None => Fields::Map(self.headers().iter()),
        })
    }

    /// The headers as they are now: in order of arrival, or of the map if that was changed.
    pub(super) fn fields(&self) -> HeadersInOrder<'_> {
        HeadersInOrder(match &self.head {
            Source::Came(came) => Fields::Came(Lines::new(came.bytes())),
            Source::Own(own) => Fields::Map(own.parts.headers.iter()),
        })
    }

    fn came(&self) -> Option<&Came> {
        match &self.head {
            Source::Came(came) => Some(came),
            Source::Own(own) => own.came.as_deref(),
        }
    }

    /// The parts as they may be changed.
    fn own(&mut self) -> &mut request::Parts {
        if let Source::Came(came) = &self.head {
            self.head = Source::Own(Box::new(Own::of(came)));
        }
        match &mut self.head {
            Source::Own(own) => &mut own.parts,
            Source::Came(_) => unreachable!("it was made its own just now"),
        }
    }
}

impl Own {
    fn of(came: &Rc<Came>) -> Own {
        let (mut parts, ()) = ::http::Request::new(()).into_parts();
        parts.method = came.head.method.clone();
        parts.version = came.head.version;
        parts.uri = came.uri().clone();
        parts.headers = came.headers().clone();
        Own { parts, came: Some(Rc::clone(came)) }
    }
}

impl From<::http::Request<Body>> for Request {
    fn from(request: ::http::Request<Body>) -> Request {
        let (parts, body) = request.into_parts();
        Request::from_parts(parts, body)
    }
}

impl From<Request> for ::http::Request<Body> {
    fn from(request: Request) -> ::http::Request<Body> {
        let (parts, body) = request.into_parts();
        ::http::Request::from_parts(parts, body)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("uri", self.uri())
            .field("version", &self.version())
            .field("headers", self.headers())
            .field("body", &self.body)
            .finish()
    }
}

/// A request's head as it came, and what was made of it on demand.
pub(crate) struct Came {
    /// The head's bytes, behind `LEAD` others.
    room: Vec<u8>,
    head: Head,
    /// The bytes again, in a form of which `uri` and `headers` have parts.
    shared: OnceCell<Bytes>,
    uri: OnceCell<Uri>,
    headers: OnceCell<HeaderMap>,
    /// Always empty.
    extensions: Extensions,
}

/// So much puts the target of a `GET` at a multiple of sixteen: that it is UTF-8 is then seen words at a time.
const LEAD: usize = 12;

impl Came {
    /// With room for `capacity` bytes at least.
    pub(super) fn new(capacity: usize, bytes: &[u8], head: Head) -> Came {
        let mut room = Vec::with_capacity(LEAD + capacity.max(bytes.len()));
        room.extend_from_slice(&[0; LEAD]);
        room.extend_from_slice(bytes);
        Came {
            room,
            head,
            shared: OnceCell::new(),
            uri: OnceCell::new(),
            headers: OnceCell::new(),
            extensions: Extensions::new(),
        }
    }

    /// Its memory, for another head.
    #[inline]
    pub(super) fn renew(&mut self, bytes: &[u8], head: Head) {
        self.room.truncate(LEAD);
        self.room.extend_from_slice(bytes);
        self.head = head;
    }

    /// Gives back what was made on demand.
    #[inline]
    pub(super) fn forget(&mut self) {
        // Both others are made of it.
        if self.shared.get().is_some() {
            self.forget_all();
        }
    }

    #[inline(never)]
    fn forget_all(&mut self) {
        self.uri.take();
        if let Some(map) = self.headers.take() {
            spare::keep_header_map(map);
        }
        if let Some(bytes) = self.shared.take() {
            spare::keep_bytes(bytes);
        }
    }

    /// From the method to the empty line inclusive.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[LEAD..]
    }

    /// What it says.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// How many bytes it can take without asking for memory.
    pub(super) fn capacity(&self) -> usize {
        self.room.capacity()
    }

    fn target(&self) -> Range<usize> {
        self.head.target()
    }

    /// Where the target's `?` is, or its end.
    fn path_end(&self) -> usize {
        self.head.line.path_end as usize
    }

    /// Whether the target is a path and perhaps a query.
    fn is_origin_form(&self) -> bool {
        self.bytes()[self.target().start] == b'/'
    }

    /// A part of the target, which is ASCII.
    fn part(&self, part: Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes()[part]).unwrap_or_default()
    }

    fn shared(&self) -> &Bytes {
        self.shared.get_or_init(|| spare::bytes(self.bytes()))
    }

    fn uri(&self) -> &Uri {
        self.uri.get_or_init(|| self.head.uri(self.shared()))
    }

    fn headers(&self) -> &HeaderMap {
        self.headers.get_or_init(|| {
            let mut map = spare::header_map(0);
            self.head.headers(self.shared(), &mut map);
            map
        })
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        Lines::new(self.bytes()).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The iterator of [`Request::headers_in_order`]: names and values.
#[derive(Debug)]
pub struct HeadersInOrder<'a>(Fields<'a>);

#[derive(Debug)]
enum Fields<'a> {
    Came(Lines<'a>),
    Map(header::Iter<'a, HeaderValue>),
}

impl<'a> Iterator for HeadersInOrder<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<(&'a str, &'a [u8])> {
        match &mut self.0 {
            Fields::Came(lines) => lines.next(),
            Fields::Map(map) => map.next().map(|(name, value)| (name.as_str(), value.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadReader, KnownFields, Limits};

    struct Nobody;

    impl Connection for Nobody {
        fn read_body(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }

        fn body_remaining(&self, _: u64) -> Option<u64> {
            Some(0)
        }

        fn peer_addr(&self) -> Addr {
            Addr::Unix(None)
        }

        fn local_addr(&self) -> Option<Addr> {
            None
        }
    }

    fn came(head: &str) -> Request {
        let found = HeadReader::default()
            .read(head.as_bytes(), &Limits::default(), &mut KnownFields::default())
            .unwrap()
            .unwrap();
        let came = spare::came(head.as_bytes(), found.head.unwrap());
        Request::incoming(came, Rc::new(Nobody), 0)
    }

    #[test]
    fn what_came_and_what_is_made_of_it_agree() {
        for target in ["/", "/a", "/a?", "/a?b=c?d", "//x?/y", "http://h", "http://h/a?b", "HTTPS://h?b"] {
            let req = came(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!((req.path(), req.query()), (req.path(), req.query()), "{target}");
            assert_eq!(req.raw_target(), target);
        }
        assert_eq!(came("OPTIONS * HTTP/1.0\r\n\r\n").path(), "*");
        assert_eq!(came("CONNECT h:1 HTTP/1.0\r\n\r\n").path(), "");
    }

    #[test]
    fn headers_are_found_with_and_without_the_map() {
        let mut req = came(
            "POST / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a:  2\t\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\n",
        );
        assert_eq!((req.header("x-A"), req.header("x-b")), (Some(&b"1"[..]), None));
        assert_eq!(req.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(req.headers().get_all("content-length").iter().count(), 1);
        req.headers_mut().insert("x-a", "3".parse().unwrap());
        req.headers_mut().append("x-a", "4".parse().unwrap());
        assert_eq!((req.header("X-a"), &req.headers()["host"]), (Some(&b"3"[..]), &"h".parse().unwrap()));
        assert_eq!(req.headers_in_order().nth(1), Some(("X-A", &b"1"[..])));
    }

    #[test]
    fn a_changed_request_keeps_the_rest_of_itself() {
        let mut req = came("PUT /a?b HTTP/1.0\r\nX-A: 1\r\n\r\n");
        assert!(req.extensions().is_empty());
        req.extensions_mut().insert(7u8);
        *req.uri_mut() = "/c?d".parse().unwrap();
        assert_eq!((req.path(), req.query(), &*req.raw_target()), ("/c", Some("d"), "/a?b"));
        let (parts, _) = req.into_parts();
        assert_eq!((parts.method, parts.version), (Method::PUT, Version::HTTP_10));
        assert_eq!((parts.extensions.get(), &parts.headers["x-a"]), (Some(&7u8), &"1".parse().unwrap()));
    }

    #[test]
    fn a_request_made_by_hand_answers_from_its_own_parts() {
        let req = ::http::Request::get("/a%20b%zz?q=1").header("x-a", "1").body(Body::empty()).unwrap();
        let req = Request::from(req);
        assert_eq!(
            (req.path(), req.query(), &*req.raw_target()),
            ("/a%20b%zz", Some("q=1"), "/a%20b%zz?q=1")
        );
        assert_eq!(&*req.path_decoded(), b"/a b%zz");
        assert_eq!(req.headers_in_order().collect::<Vec<_>>(), [("x-a", &b"1"[..])]);
        assert!(req.peer_addr().is_none());
        assert_eq!(::http::Request::from(req).uri(), "/a%20b%zz?q=1");
    }

    #[test]
    fn secrets_are_masked() {
        let req = came("GET / HTTP/1.0\r\nCookie: secret\r\nAuthorization: secret\r\nX-A: 1\r\n\r\n");
        let text = format!("{req:?}");
        assert!(text.contains("x-a") && !text.contains("secret"), "{text}");
    }
}
