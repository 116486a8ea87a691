//! What a handler may return.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::io;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;

use super::{Body, BodyError, ContentType, ForwardedError, Response};

/// Something that can be answered with.
///
/// Text is sent as `text/plain; charset=utf-8`, bytes as `application/octet-stream`, a [`StatusCode`] alone with an empty
/// body, `None` as 404; [`Json`](super::Json), [`Html`](super::Html) and [`Redirect`](super::Redirect) are what they say.
/// Tuples add a status, headers (an array or a [`HeaderMap`]) or both:
///
/// ```
/// use greenserve::{IntoResponse, StatusCode};
/// let made = (StatusCode::CREATED, [("location", "/things/1")], "made").into_response();
/// assert_eq!(made.status(), 201);
/// assert_eq!(made.headers()["location"], "/things/1");
/// ```
///
/// A header name or value that is not a valid one (a line break in it, say) never reaches the wire: the answer is a
/// logged 500.
pub trait IntoResponse {
    /// Makes the response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl<B: Into<Body>> IntoResponse for ::http::Response<B> {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(Body::empty())
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self;
        response
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Text, self.into())
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Text, self.into())
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

impl IntoResponse for Box<str> {
    fn into_response(self) -> Response {
        String::from(self).into_response()
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Bytes, self.into())
    }
}

impl<const N: usize> IntoResponse for &'static [u8; N] {
    fn into_response(self) -> Response {
        self.as_slice().into_response()
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Bytes, self.into())
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Bytes, self.into())
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

/// An error of reading the request's body is the client's: 400, 408 or 413 (see [`BodyError::status`]); so is most of
/// [`ForwardedError`]. Any other is a 500 and a line in the log; the client does not see its text.
impl IntoResponse for io::Error {
    fn into_response(self) -> Response {
        let body = BodyError::of(&self).map(BodyError::status);
        match body.or_else(|| ForwardedError::of(&self).map(ForwardedError::status)) {
            Some(status) if status != StatusCode::INTERNAL_SERVER_ERROR => {
                (status, format!("{self}\n")).into_response()
            }
            _ => failed(&self),
        }
    }
}

/// Its status; see [`Error`](super::Error) for what the client is told, and what the log.
impl IntoResponse for super::Error {
    fn into_response(self) -> Response {
        let status = self.status();
        if !status.is_server_error() {
            return (status, format!("{self}\n")).into_response();
        }
        match self.source() {
            Some(source) => log::error!("a handler failed: {self}: {source}"),
            None => log::error!("a handler failed: {self}"),
        }
        (status, format!("{}\n", status.canonical_reason().unwrap_or("Error"))).into_response()
    }
}

/// As for the [`io::Error`] or the [`Error`](super::Error) it holds, else a 500 and a line in the log.
impl IntoResponse for Box<dyn Error> {
    fn into_response(self) -> Response {
        let error = match self.downcast::<io::Error>() {
            Ok(error) => return error.into_response(),
            Err(error) => error,
        };
        match error.downcast::<super::Error>() {
            Ok(error) => error.into_response(),
            Err(error) => failed(&error),
        }
    }
}

/// As for the [`io::Error`] or the [`Error`](super::Error) it holds, else a 500 and a line in the log.
impl IntoResponse for Box<dyn Error + Send + Sync> {
    fn into_response(self) -> Response {
        let error: Box<dyn Error> = self;
        error.into_response()
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        let (status, value) = self;
        let mut response = value.into_response();
        *response.status_mut() = status;
        response
    }
}

impl<K, V, T, const N: usize> IntoResponse for ([(K, V); N], T)
where
    K: TryInto<HeaderName, Error: Display>,
    V: TryInto<HeaderValue, Error: Display>,
    T: IntoResponse,
{
    fn into_response(self) -> Response {
        let (headers, value) = self;
        let mut response = value.into_response();
        for (name, value) in headers {
            let name = match name.try_into() {
                Ok(name) => name,
                Err(error) => return failed(&error),
            };
            match value.try_into() {
                Ok(value) => response.headers_mut().insert(name, value),
                Err(error) => return failed(&format_args!("header {name}: {error}")),
            };
        }
        response
    }
}

impl<K, V, T, const N: usize> IntoResponse for (StatusCode, [(K, V); N], T)
where
    K: TryInto<HeaderName, Error: Display>,
    V: TryInto<HeaderValue, Error: Display>,
    T: IntoResponse,
{
    fn into_response(self) -> Response {
        let (status, headers, value) = self;
        // The status comes last on the value but before the headers: bad headers make a 500 whatever was asked.
        (headers, (status, value)).into_response()
    }
}

/// Each header of the map takes the place of those of its name.
impl<T: IntoResponse> IntoResponse for (HeaderMap, T) {
    fn into_response(self) -> Response {
        let (headers, value) = self;
        let mut response = value.into_response();
        response.headers_mut().extend(headers);
        response
    }
}

/// Each header of the map takes the place of those of its name.
impl<T: IntoResponse> IntoResponse for (StatusCode, HeaderMap, T) {
    fn into_response(self) -> Response {
        let (status, headers, value) = self;
        (headers, (status, value)).into_response()
    }
}

#[cold]
pub(super) fn failed(error: &dyn Display) -> Response {
    log::error!("a handler failed: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_get_their_content_type() {
        assert_eq!("a".into_response().headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(vec![1].into_response().headers()["content-type"], "application/octet-stream");
        assert!(Body::from("a").into_response().headers().is_empty());
    }

    #[test]
    fn all_sorts_of_text_and_bytes_are_what_they_hold() {
        let all = [
            Cow::Borrowed("abc").into_response(),
            Cow::<str>::Owned("abc".to_owned()).into_response(),
            Box::<str>::from("abc").into_response(),
            b"abc".into_response(),
            b"abc".as_slice().into_response(),
        ];
        for (response, kind) in all.into_iter().zip(["text", "text", "text", "application", "application"]) {
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind));
            assert_eq!(&response.into_body().into_bytes().unwrap()[..], b"abc");
        }
        let fine: Result<&'static str, Infallible> = Ok("abc");
        assert_eq!(fine.into_response().status(), 200);
    }

    #[test]
    fn a_map_of_headers_replaces_names_and_keeps_repetitions() {
        let mut headers = HeaderMap::new();
        headers.append("content-type", HeaderValue::from_static("text/css"));
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let response = (StatusCode::ACCEPTED, headers, "p {}").into_response();
        assert_eq!(response.status(), 202);
        assert_eq!(response.headers().get_all("content-type").iter().collect::<Vec<_>>(), ["text/css"]);
        assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn a_body_error_that_is_let_through_tells_the_client() {
        for (error, status) in [
            (BodyError::Incomplete, 400),
            (BodyError::Malformed("x"), 400),
            (BodyError::TimedOut, 408),
            (BodyError::TooLarge, 413),
            (BodyError::Finished, 500),
        ] {
            assert_eq!(io::Error::from(error).into_response().status(), status);
            let boxed: Box<dyn Error + Send + Sync> = Box::new(io::Error::from(error));
            assert_eq!(boxed.into_response().status(), status);
        }
    }

    #[test]
    fn any_other_error_is_a_500_that_keeps_its_text_to_itself() {
        let response = io::Error::other("the password is 1234").into_response();
        assert_eq!(response.status(), 500);
        assert_eq!(&response.into_body().into_bytes().unwrap()[..], b"Internal Server Error\n");
    }

    #[test]
    fn a_header_that_is_not_one_becomes_a_500() {
        let injected = (StatusCode::OK, [("x-a", "b\r\nx-evil: 1")], "body").into_response();
        assert_eq!(injected.status(), 500);
        assert!(!injected.headers().contains_key("x-a"));
        assert_eq!(([("x\r\na", "b")], "body").into_response().status(), 500);
    }

    #[test]
    fn none_is_404_and_a_status_replaces_the_inner_one() {
        assert_eq!(None::<&'static str>.into_response().status(), 404);
        assert_eq!((StatusCode::ACCEPTED, "x").into_response().status(), 202);
    }
}
