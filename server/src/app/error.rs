//! The error that says with which status it is answered.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use ::http::StatusCode;

use super::BodyError;

/// Why a request has no regular answer: a status, a text and perhaps another error behind it.
///
/// Everything that takes a request apart ([`query_as`](super::Request::query_as), [`json`](super::Request::json),
/// [`param_as`](super::Request::param_as), …) fails with it, so that `?` is all that a handler needs. Below 500 the text is
/// for the client, who gets it as plain text; from 500 on it is for the log, with what stands behind it, and the client
/// sees the status only.
///
/// Where errors of other kinds come up too, let the handler return `Box<dyn Error>`: any error goes into that by `?`. This
/// one keeps its status in there, so do those of reading the request's body, and all others are a logged 500.
///
/// ```
/// use greenserve::{Body, Error, Handler, Request, StatusCode};
///
/// fn half(req: Request) -> Result<String, Box<dyn std::error::Error>> {
///     let number: u32 = req.query().unwrap_or_default().parse()?; // a 500
///     if number % 2 == 1 {
///         return Err(Error::new(StatusCode::CONFLICT, "it is odd").into());
///     }
///     Ok(format!("{}", number / 2))
/// }
///
/// let ask = |target| http::Request::get(target).body(Body::empty()).unwrap().into();
/// assert_eq!(half.call(ask("/?84")).status(), 200);
/// assert_eq!(half.call(ask("/?85")).status(), 409);
/// assert_eq!(half.call(ask("/?none")).status(), 500);
/// ```
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    text: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// To be answered with that status. A status below 400 is no error: then it is 500.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Error {
        let status = if status.as_u16() < 400 { StatusCode::INTERNAL_SERVER_ERROR } else { status };
        Error { status, text: text.into(), source: None }
    }

    /// A 500 because of `source`, which the log will name: `.map_err(Error::internal)?`.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let error = Error::new(StatusCode::INTERNAL_SERVER_ERROR, "the handler could not do its work");
        error.because(source)
    }

    /// With what stands behind it: [`source`](StdError::source).
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The status with which it is answered.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_deref()?)
    }
}

/// With the status's name as its text: `req.header("x-a").ok_or(StatusCode::BAD_REQUEST)?`.
impl From<StatusCode> for Error {
    fn from(status: StatusCode) -> Error {
        Error::new(status, status.canonical_reason().unwrap_or("Error"))
    }
}

/// With the status of the [`BodyError`] inside, else a 500.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match BodyError::of(&error) {
            Some(inner) => Error::new(inner.status(), inner.to_string()).because(error),
            None => Error::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::IntoResponse;

    fn answer(error: impl IntoResponse) -> (u16, String) {
        let response = error.into_response();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().into_bytes().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn the_client_is_told_of_its_own_errors_only() {
        assert_eq!(answer(Error::new(StatusCode::CONFLICT, "taken")), (409, "taken\n".into()));
        let ours = Error::new(StatusCode::BAD_GATEWAY, "10.0.0.7 is down");
        assert_eq!(answer(ours), (502, "Bad Gateway\n".into()));
        assert_eq!(answer(Error::internal("a secret")), (500, "Internal Server Error\n".into()));
        assert_eq!(Error::new(StatusCode::OK, "no error").status(), 500);
    }

    #[test]
    fn it_keeps_its_status_in_a_box_and_takes_up_others() {
        let boxed: Box<dyn StdError> = Error::new(StatusCode::GONE, "gone").into();
        assert_eq!(answer(boxed).0, 410);
        let boxed: Box<dyn StdError + Send + Sync> = Error::from(StatusCode::NOT_FOUND).into();
        assert_eq!(answer(boxed), (404, "Not Found\n".into()));
        assert_eq!(Error::from(io::Error::from(BodyError::TooLarge)).status(), 413);
        let other = Error::from(io::Error::other("disk"));
        assert_eq!((other.status().as_u16(), other.source().unwrap().to_string()), (500, "disk".into()));
    }
}
