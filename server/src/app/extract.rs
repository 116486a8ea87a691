//! Values out of queries and bodies, by serde.

use std::fmt::Display;
use std::io::{self, Read};

use ::http::StatusCode;
use serde::de::DeserializeOwned;

use super::{Body, Error, Request};

/// How large a body that is taken into memory may be if nobody has said otherwise.
pub(super) const MOST: u64 = 2 * 1024 * 1024;

/// Values are made by serde. Bodies are taken into memory for it: of up to 2 MiB, or what
/// [`limit_body`](super::limit_body) or [`Body::limit`] allow, if they were asked.
impl Request {
    /// The query as a value: a struct with a field for each name, say. A name that comes several times fills a `Vec`, one
    /// that may be missing an `Option`.
    ///
    /// # Errors
    /// 400 if it does not fit, saying where.
    ///
    /// ```
    /// use greenserve::{Body, Request};
    /// # use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Page {
    ///     number: u32,
    ///     #[serde(default)]
    ///     tag: Vec<String>,
    /// }
    /// let req = Request::from(http::Request::get("/?number=3&tag=a&tag=b%20c").body(Body::empty()).unwrap());
    /// let page: Page = req.query_as()?;
    /// assert_eq!((page.number, page.tag), (3, vec!["a".to_owned(), "b c".to_owned()]));
    /// # Ok::<_, greenserve::Error>(())
    /// ```
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let query = self.query().unwrap_or_default();
        serde_html_form::from_str(query)
            .map_err(|error| unfit(StatusCode::BAD_REQUEST, "the query does not fit", &error))
    }

    /// The body, which is a form that a browser has sent (`application/x-www-form-urlencoded`), as a value; as
    /// [`Request::query_as`]. Parks until all of it has come.
    ///
    /// # Errors
    /// 415 if it says that it is something else, 413 if it is too large, 422 if it does not fit, and those of reading it.
    pub fn form<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        self.expect("application/x-www-form-urlencoded", |media_type| {
            media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })?;
        let bytes = whole(self.body_mut())?;
        serde_html_form::from_bytes(&bytes)
            .map_err(|error| unfit(StatusCode::UNPROCESSABLE_ENTITY, "the form does not fit", &error))
    }

    /// The body, which is JSON, as a value. Parks until all of it has come.
    ///
    /// # Errors
    /// 415 if it says that it is neither `application/json` nor `application/…+json`, 413 if it is too large, 400 if it is
    /// no JSON, 422 if it does not fit, and those of reading it.
    ///
    /// ```
    /// use greenserve::{Error, Json, Request};
    ///
    /// fn sum(mut req: Request) -> Result<Json<i64>, Error> {
    ///     let numbers: Vec<i64> = req.json()?;
    ///     Ok(Json(numbers.iter().sum()))
    /// }
    /// ```
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        self.expect("application/json", is_json)?;
        let bytes = whole(self.body_mut())?;
        serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                unfit(StatusCode::UNPROCESSABLE_ENTITY, "the JSON in the body does not fit", &error)
            }
            _ => unfit(StatusCode::BAD_REQUEST, "the body is no JSON", &error),
        })
    }

    /// The body must say that it is what is wanted.
    fn expect(&self, wanted: &str, is_it: impl Fn(&str) -> bool) -> Result<(), Error> {
        let field =
            self.header("content-type").and_then(|field| str::from_utf8(field).ok()).unwrap_or_default();
        let media_type = field.split(';').next().unwrap_or_default().trim();
        if is_it(media_type) {
            return Ok(());
        }
        let text = format!("the body must come with the Content-Type {wanted}");
        Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
    }
}

fn is_json(media_type: &str) -> bool {
    let Some((kind, name)) = media_type.split_once('/') else { return false };
    let suffix = name.len().checked_sub("+json".len()).and_then(|at| name.get(at..));
    kind.eq_ignore_ascii_case("application")
        && (name.eq_ignore_ascii_case("json") || suffix.is_some_and(|end| end.eq_ignore_ascii_case("+json")))
}

fn unfit(status: StatusCode, what: &str, error: &dyn Display) -> Error {
    Error::new(status, format!("{what}: {error}"))
}

/// All of a body, within its limit.
fn whole(body: &mut Body) -> io::Result<Vec<u8>> {
    if !body.is_limited() {
        body.limit(MOST)?;
    }
    let mut all = Vec::new();
    body.read_to_end(&mut all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::app::{BodyError, IntoResponse};

    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        name: String,
        count: u32,
        note: Option<String>,
    }

    fn thing(name: &str, count: u32, note: Option<&str>) -> Thing {
        Thing { name: name.to_owned(), count, note: note.map(str::to_owned) }
    }

    fn request(content_type: &str, body: impl Into<Body>) -> Request {
        ::http::Request::post("/").header("content-type", content_type).body(body.into()).unwrap().into()
    }

    #[test]
    fn a_query_fits_or_says_where_it_does_not() {
        let ask = |query: &str| {
            let target = format!("/{query}");
            Request::from(::http::Request::get(target).body(Body::empty()).unwrap()).query_as::<Thing>()
        };
        assert_eq!(ask("?name=a+b&count=2&note=%C3%BC").unwrap(), thing("a b", 2, Some("ü")));
        assert_eq!(ask("?count=2&name=").unwrap(), thing("", 2, None));
        for query in ["", "?name=a", "?name=a&count=-1", "?name=a&count="] {
            assert_eq!(ask(query).unwrap_err().status(), 400, "{query}");
        }
        assert!(ask("?name=a").unwrap_err().to_string().contains("count"));
    }

    #[test]
    fn json_is_what_says_so_and_fits() {
        let body = r#"{"name":"a","count":2}"#;
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
            assert_eq!(request(kind, body).json::<Thing>().unwrap(), thing("a", 2, None), "{kind}");
        }
        for kind in
            ["text/plain", "", "application/jsonp", "application/x-www-form-urlencoded", "json", "text/json"]
        {
            assert_eq!(request(kind, body).json::<Thing>().unwrap_err().status(), 415, "{kind}");
        }
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("{\"name\":\"a\",\"count\":2} x", 400),
            ("\u{0}", 400),
            ("[1]", 422),
            ("{}", 422),
        ] {
            let error = request("application/json", body).json::<Thing>().unwrap_err();
            assert_eq!(error.status(), status, "{body}: {error}");
        }
    }

    #[test]
    fn a_form_is_what_says_so_and_fits() {
        const FORM: &str = "application/x-www-form-urlencoded";
        assert_eq!(request(FORM, "name=x%26y&count=1").form::<Thing>().unwrap(), thing("x&y", 1, None));
        assert_eq!(request(FORM, "name=x").form::<Thing>().unwrap_err().status(), 422);
        assert_eq!(request("multipart/form-data", "").form::<Thing>().unwrap_err().status(), 415);
    }

    #[test]
    fn two_mebibytes_are_the_most_unless_somebody_says_otherwise() {
        let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        let most = usize::try_from(MOST).unwrap();
        assert_eq!(request("application/json", text(most)).json::<String>().unwrap().len(), most - 2);
        let error = request("application/json", text(most + 1)).json::<String>().unwrap_err();
        assert_eq!(error.status(), 413);
        assert_eq!(error.into_response().status(), 413);
        let mut larger = request("application/json", text(most + 1));
        larger.body_mut().limit(2 * MOST).unwrap();
        assert!(larger.json::<String>().is_ok());
        let mut smaller = request("application/json", Body::reader(io::repeat(b'1'), None));
        smaller.body_mut().limit(10).unwrap();
        assert_eq!(smaller.json::<u64>().unwrap_err().status(), 413);
        let error = smaller.body_mut().read(&mut [0]).unwrap_err();
        assert_eq!(BodyError::of(&error), Some(BodyError::TooLarge));
    }
}
