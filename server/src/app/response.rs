//! The answer that a handler gives.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::body::Kind;
use super::{Body, header_map};

/// A response as a handler gives it: status, headers and [`Body`]. Most handlers return something simpler that is
/// [`IntoResponse`](super::IntoResponse).
///
/// It has the methods of [`http::Response`], and is made of one and into one by `From`; it is a type of its own because the
/// content type of a plain text needs no header map until somebody asks for the headers.
///
/// ```
/// use greenserve::{Body, Response, StatusCode};
/// let mut response = Response::new(Body::from("made"));
/// *response.status_mut() = StatusCode::CREATED;
/// response.headers_mut().insert("location", "/things/1".parse().unwrap());
/// assert_eq!(response.headers()["location"], "/things/1");
///
/// let other = http::Response::builder().status(202).body(Body::empty()).unwrap();
/// assert_eq!(Response::from(other).status(), StatusCode::ACCEPTED);
/// ```
#[derive(Default)]
pub struct Response {
    status: StatusCode,
    /// What the body is, as long as there are no `headers` that say it.
    content_type: Option<ContentType>,
    headers: OnceCell<HeaderMap>,
    body: Body,
    route: Option<Arc<str>>,
}

/// The content types that the server gives by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    Text,
    Bytes,
    Html,
    Json,
}

impl ContentType {
    /// The whole header line.
    pub(crate) fn line(self) -> &'static [u8] {
        match self {
            ContentType::Text => b"content-type: text/plain; charset=utf-8\r\n",
            ContentType::Bytes => b"content-type: application/octet-stream\r\n",
            ContentType::Html => b"content-type: text/html; charset=utf-8\r\n",
            ContentType::Json => b"content-type: application/json\r\n",
        }
    }
}

// Made when compiling, since making one checks each byte.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The headers of a response.
#[derive(Clone, Copy)]
pub(crate) enum Headers<'a> {
    /// No others than this one.
    Only(Option<ContentType>),
    Map(&'a HeaderMap),
}

impl Response {
    /// 200 with that body, without headers.
    pub fn new(body: impl Into<Body>) -> Response {
        Response { body: body.into(), ..Response::default() }
    }

    pub(crate) fn typed(content_type: ContentType, body: Body) -> Response {
        Response { content_type: Some(content_type), body, ..Response::default() }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The status, to be set. An interim one (1xx) is answered with 500: the server alone sends these, but for the
    /// 101 of [`Response::upgrade`].
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.headers.get_or_init(|| map_of(self.content_type))
    }

    /// The headers, to be changed. Those that concern the connection or the framing are the server's: of `Content-Length` and
    /// `Connection: close` it takes the meaning, the others it leaves out.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers();
        self.headers.get_mut().expect("the line above has made it")
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to be replaced, say. What the headers say of it is not changed thereby.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The pattern of the route that gave it, as [`Request::route`](super::Request::route) has it. `None` if no router was
    /// asked or none had a route; what goes through the `http` crate's type forgets it.
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// Notes the route that gave it, unless a router further inside has done so.
    pub(crate) fn note_route(&mut self, route: Arc<str>) {
        self.route.get_or_insert(route);
    }

    pub(crate) fn take_route(&mut self) -> Option<Arc<str>> {
        self.route.take()
    }

    /// All there is, each in its place and without a map made for the headers.
    pub(crate) fn parts(&mut self) -> (StatusCode, Headers<'_>, &mut Kind) {
        let headers = self.headers.get().map_or(Headers::Only(self.content_type), Headers::Map);
        (self.status, headers, self.body.kind_mut())
    }

    /// Takes the headers out, if there is a map of them.
    pub(crate) fn take_map(&mut self) -> Option<HeaderMap> {
        self.headers.take()
    }
}

#[cold]
fn map_of(content_type: Option<ContentType>) -> HeaderMap {
    let mut map = header_map(1);
    match content_type {
        Some(ContentType::Text) => map.insert(header::CONTENT_TYPE, TEXT),
        Some(ContentType::Bytes) => map.insert(header::CONTENT_TYPE, BYTES),
        Some(ContentType::Html) => map.insert(header::CONTENT_TYPE, HTML),
        Some(ContentType::Json) => map.insert(header::CONTENT_TYPE, JSON),
        None => None,
    };
    map
}

/// Status, headers and body are taken over. The version is the server's affair, and nobody reads extensions.
impl<B: Into<Body>> From<::http::Response<B>> for Response {
    fn from(response: ::http::Response<B>) -> Response {
        let (parts, body) = response.into_parts();
        Response {
            status: parts.status,
            content_type: None,
            headers: parts.headers.into(),
            body: body.into(),
            route: None,
        }
    }
}

impl From<Response> for ::http::Response<Body> {
    fn from(mut response: Response) -> ::http::Response<Body> {
        let headers = std::mem::take(response.headers_mut());
        let mut made = ::http::Response::new(response.body);
        *made.status_mut() = response.status;
        *made.headers_mut() = headers;
        made
    }
}

/// Shows the headers without the secrets that an answer has.
struct Masked<'a>(&'a HeaderMap);

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut secret = HeaderValue::from_static("");
        secret.set_sensitive(true);
        let shown = |(name, value)| (name, if name == header::SET_COOKIE { &secret } else { value });
        f.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

/// Shows `Sensitive` in place of the values of `Set-Cookie`.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &Masked(self.headers()))
            .field("body", &self.body)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_there_as_soon_as_somebody_looks() {
        let mut response = Response::typed(ContentType::Text, "a".into());
        assert!(matches!(response.parts().1, Headers::Only(Some(ContentType::Text))));
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        response.headers_mut().remove("content-type");
        assert!(matches!(response.parts().1, Headers::Map(map) if map.is_empty()));
        assert!(response.headers().is_empty());
        let mut bytes = Response::typed(ContentType::Bytes, "a".into());
        bytes.headers_mut().insert("x-a", HeaderValue::from_static("1"));
        assert_eq!(bytes.headers()["content-type"], "application/octet-stream");
        assert_eq!(bytes.headers().len(), 2);
    }

    #[test]
    fn cookies_are_masked() {
        let mut response = Response::new("a");
        response.headers_mut().append("set-cookie", HeaderValue::from_static("id=secret"));
        response.headers_mut().append("set-cookie", HeaderValue::from_static("b=secret"));
        response.headers_mut().append("x-a", HeaderValue::from_static("1"));
        let text = format!("{response:?}");
        assert!(text.contains("x-a") && text.contains("Sensitive") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn the_line_says_what_the_header_says() {
        let all = [
            (ContentType::Text, TEXT),
            (ContentType::Bytes, BYTES),
            (ContentType::Html, HTML),
            (ContentType::Json, JSON),
        ];
        for (content_type, value) in all {
            let expected = format!("content-type: {}\r\n", value.to_str().unwrap());
            assert_eq!(content_type.line(), expected.as_bytes());
            assert_eq!(Response::typed(content_type, "".into()).headers()["content-type"], value);
        }
    }

    #[test]
    fn it_goes_into_the_http_crates_type_and_comes_back_as_it_was() {
        let mut response = Response::typed(ContentType::Text, "abc".into());
        *response.status_mut() = StatusCode::CREATED;
        let theirs = ::http::Response::<Body>::from(response);
        assert_eq!(theirs.headers()["content-type"], "text/plain; charset=utf-8");
        let ours = Response::from(theirs);
        assert_eq!((ours.status(), ours.body().length()), (StatusCode::CREATED, Some(3)));
        assert_eq!(ours.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(&ours.into_body().into_bytes().unwrap()[..], b"abc");
    }
}
