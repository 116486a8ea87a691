//! Serving the files under a folder: `static:DIR`.
//!
//! `path` finds and opens what a request names, and nothing outside the folder; `conditions` decides by the
//! preconditions of RFC 9110, 13, and `ranges` by `Range`, both as pure functions; here they are put together
//! into responses. The bytes themselves go from the page cache to the socket by `sendfile(2)`, see
//! [`Body::file`].
//!
//! Files are opened and looked up in the green thread itself, not on the thread pool: on a local disk that took a third
//! of the time of a trip to the pool and back when it was measured (10 and 28 microseconds). A folder on a slow network mount wants `-k threads`.

mod conditions;
mod path;
mod ranges;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::header::{self, HeaderName, HeaderValue};
use ::http::{HeaderMap, Method, StatusCode};

use self::conditions::{Outcome, Validators};
use self::path::{Found, Target};
use self::ranges::Selection;
use crate::{Body, Handler, IntoResponse, Request, Response};

/// A handler that answers with the files under a folder.
///
/// - `GET` and `HEAD`; any other method is a 405.
/// - In a [nest](crate::Router::nest) the folder begins where the nest does: `.nest("/static", files)`.
/// - A folder is answered with its `index.html`, after a redirect to the path with a slash at its end. There are no
///   listings.
/// - Nothing outside the folder is served, whatever the path says (`..`, encoded or not, is a 404) and wherever
///   symbolic links lead: those that stay inside work if they are relative. The folder itself may be a link, and is
///   looked up anew for each request, so exchanging the link deploys a new version.
/// - Names that begin with a dot are not served (`.git`, `.env`), except below `/.well-known/` (RFC 8615).
/// - Types come from the file name's extension; text is declared to be UTF-8.
/// - `ETag` (size and modification time in nanoseconds) and `Last-Modified`, with all preconditions of RFC 9110, 13;
///   `Range` with one or several parts, and `If-Range`.
///
/// ```
/// use greenserve::files::StaticFiles;
/// use greenserve::{Body, Handler, Request};
///
/// let files = StaticFiles::new("src")?;
/// let response = files.call(::http::Request::get("/lib.rs").body(Body::empty()).unwrap().into());
/// assert_eq!(response.headers()["content-type"], "text/x-rust; charset=utf-8");
/// assert_eq!(files.call(::http::Request::get("/../Cargo.toml").body(Body::empty()).unwrap().into()).status(), 404);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct StaticFiles {
    root: PathBuf,
}

impl StaticFiles {
    /// A handler for the files under `dir`.
    ///
    /// # Errors
    /// `dir` is not a folder, or may not be read. The error names it.
    pub fn new(dir: impl AsRef<Path>) -> io::Result<Self> {
        let dir = dir.as_ref();
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot serve {}: {error}", dir.display()))
        };
        std::fs::read_dir(dir).map_err(named)?;
        Ok(Self { root: std::path::absolute(dir).map_err(named)? })
    }

    fn answer(&self, req: &Request) -> io::Result<Response> {
        if req.method() != Method::GET && req.method() != Method::HEAD {
            return Ok((StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET, HEAD")], ()).into_response());
        }
        // The nest in which this handler stands is asked for without a slash at its end.
        let left = if req.path_info().is_empty() { "/" } else { req.path_info() };
        let Some(target) = Target::of(left) else {
            return Ok(status(StatusCode::NOT_FOUND));
        };
        if req.path_info().is_empty() && !req.script_name().is_empty() {
            return redirect(req, &target);
        }
        match path::open(&self.root, &target) {
            Ok(Found::File { file, name, length, modified }) => {
                let etag = etag(modified, length);
                let validators = Validators { etag: &etag, modified: modified.and_then(last_modified) };
                respond(req, file, length, &name, validators)
            }
            Ok(Found::Folder) => redirect(req, &target),
            Ok(Found::Nothing) => Ok(status(StatusCode::NOT_FOUND)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(status(StatusCode::FORBIDDEN))
            }
            Err(error) => Err(error),
        }
    }
}

impl Handler for StaticFiles {
    fn call(&self, req: Request) -> Response {
        self.answer(&req).into_response()
    }
}

fn status(status: StatusCode) -> Response {
    (status, format!("{status}\n")).into_response()
}

/// To the same path with a slash at its end. It is written anew from its decoded segments, so that nothing a browser
/// might take for another host can be in it.
fn redirect(req: &Request, target: &Target) -> io::Result<Response> {
    let query = req.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}{}/{query}", path::encoded(req.script_name()), target.encoded());
    let mut response = StatusCode::MOVED_PERMANENTLY.into_response();
    response.headers_mut().insert(header::LOCATION, value(location)?);
    Ok(response)
}

fn respond(
    req: &Request,
    file: File,
    length: u64,
    name: &Path,
    validators: Validators<'_>,
) -> io::Result<Response> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(validators.etag.to_owned())?);
    if let Some(modified) = validators.modified {
        headers.insert(header::LAST_MODIFIED, value(httpdate::fmt_http_date(modified))?);
    }
    match conditions::evaluate(req.headers(), validators) {
        Outcome::Proceed => {}
        Outcome::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        Outcome::Failed => return Ok(status(StatusCode::PRECONDITION_FAILED)),
    }

    let content_type = content_type(name)?;
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    match selection(req, validators, length) {
        Selection::Whole => {
            headers.insert(header::CONTENT_TYPE, content_type);
            *response.body_mut() = Body::file(file, 0, length);
        }
        Selection::One(range) => {
            headers.insert(header::CONTENT_TYPE, content_type);
            headers.insert(header::CONTENT_RANGE, value(ranges::content_range(&range, length))?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.body_mut() = Body::file(file, range.start, range.end - range.start);
        }
        Selection::Several(parts) => {
            let parts = ranges::Multipart::new(parts, length, &content_type);
            headers.insert(header::CONTENT_TYPE, value(parts.content_type())?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            *response.body_mut() = parts.body(file);
        }
        Selection::Nothing => {
            let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
            response.headers_mut().insert(header::CONTENT_RANGE, value(format!("bytes */{length}"))?);
            return Ok(response);
        }
    }
    Ok(response)
}

/// Which part of the file is asked for. `Range` means something to `GET` alone (RFC 9110, 14.2).
fn selection(req: &Request, validators: Validators<'_>, length: u64) -> Selection {
    if req.method() != Method::GET || !conditions::range_applies(req.headers(), validators) {
        return Selection::Whole;
    }
    match only(req.headers(), &header::RANGE) {
        Some(range) => ranges::select(range, length),
        None => Selection::Whole,
    }
}

/// The value of a header that is there once; a field that must not be repeated says nothing if it is.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn etag(modified: Option<SystemTime>, length: u64) -> String {
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("\"{:x}-{length:x}\"", since.as_nanos())
}

/// In whole seconds and not in the future (RFC 9110, 8.8.2.1); none for a file from before 1970.
fn last_modified(modified: SystemTime) -> Option<SystemTime> {
    let since = modified.min(SystemTime::now()).duration_since(UNIX_EPOCH).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(since.as_secs()))
}

fn content_type(name: &Path) -> io::Result<HeaderValue> {
    match mime_guess::from_path(name).first_raw() {
        Some(mime) if mime.starts_with("text/") => value(format!("{mime}; charset=utf-8")),
        Some(mime) => Ok(HeaderValue::from_static(mime)),
        None => Ok(HeaderValue::from_static("application/octet-stream")),
    }
}

fn value(text: String) -> io::Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
