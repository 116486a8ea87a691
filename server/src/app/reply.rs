//! Answers of which the type says more than the bytes.

use ::http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use super::into_response::failed;
use super::{Body, ContentType, IntoResponse, Response};

/// A value that is sent as JSON, with `application/json`. One that has no such form (a map with keys that are no text, say)
/// is a logged 500. It is written into memory first.
///
/// ```
/// use greenserve::{IntoResponse, Json};
///
/// let response = Json([1, 2, 3]).into_response();
/// assert_eq!(response.headers()["content-type"], "application/json");
/// assert_eq!(&response.into_body().into_bytes().unwrap()[..], b"[1,2,3]");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Response::typed(ContentType::Json, bytes.into()),
            Err(error) => failed(&format_args!("its value has no JSON form: {error}")),
        }
    }
}

/// A page: sent as `text/html; charset=utf-8`. What it is made of must be escaped already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Html<T>(pub T);

impl<T: Into<Body>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::typed(ContentType::Html, self.0.into())
    }
}

/// Sends the client elsewhere: to a URI, or to a path on this server. Control characters, spaces and what is not ASCII are
/// percent-encoded in it. Where it comes from the client, look at it first: `//evil.example/` is another server.
///
/// ```
/// use greenserve::{IntoResponse, Redirect};
///
/// let response = Redirect::to("/things/7").into_response();
/// assert_eq!((response.status().as_u16(), &response.headers()["location"]), (303, &"/things/7".parse().unwrap()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    status: StatusCode,
    location: String,
}

impl Redirect {
    /// 303 See Other: what the client wants is there, to be got by `GET`, whatever it has sent. The answer to a form.
    pub fn to(location: &str) -> Redirect {
        Redirect::with(StatusCode::SEE_OTHER, location)
    }

    /// 307 Temporary Redirect: the same request, with its method and body, is to be sent there.
    pub fn temporary(location: &str) -> Redirect {
        Redirect::with(StatusCode::TEMPORARY_REDIRECT, location)
    }

    /// 308 Permanent Redirect: as 307, and from now on always.
    pub fn permanent(location: &str) -> Redirect {
        Redirect::with(StatusCode::PERMANENT_REDIRECT, location)
    }

    fn with(status: StatusCode, location: &str) -> Redirect {
        Redirect { status, location: utf8_percent_encode(location, NOT_IN_URI).to_string() }
    }
}

const NOT_IN_URI: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        let location = match HeaderValue::try_from(self.location) {
            Ok(location) => location,
            Err(error) => return failed(&error),
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::LOCATION, location);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_has_its_type() {
        let page = Html("<p>").into_response();
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let made = (StatusCode::CREATED, Json("x")).into_response();
        assert_eq!(made.status(), 201);
        assert_eq!(made.headers()["content-type"], "application/json");
    }

    #[test]
    fn what_has_no_json_form_is_a_500() {
        assert_eq!(Json(BTreeMap::from([((1, 2), 3)])).into_response().status(), 500);
    }

    #[test]
    fn a_location_can_neither_end_its_line_nor_hold_what_no_uri_holds() {
        let made = |redirect: Redirect| {
            let response = redirect.into_response();
            (response.status().as_u16(), response.headers()["location"].to_str().unwrap().to_owned())
        };
        assert_eq!(made(Redirect::to("/a b%20c?d=ü#e")), (303, "/a%20b%20c?d=%C3%BC#e".into()));
        assert_eq!(
            made(Redirect::temporary("/\r\nSet-Cookie: a=b")),
            (307, "/%0D%0ASet-Cookie:%20a=b".into())
        );
        assert_eq!(made(Redirect::permanent("https://h/")), (308, "https://h/".into()));
    }
}
