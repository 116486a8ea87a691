//! Cookies (RFC 6265), by the `cookie` crate.

use ::http::{HeaderValue, StatusCode, header};
use cookie::Cookie;

use super::{Error, Request, Response};

impl Request {
    /// The cookies that came, in their order. What is not `name=value` is left out. Values are as they came: neither is
    /// their percent-encoding taken off nor are quotes around them ([`Cookie::value_trimmed`] does that).
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'_>> {
        let fields = self.headers().get_all(header::COOKIE).iter();
        // Each by itself, so that one with strange bytes takes no others with it.
        let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        pairs.filter_map(|pair| Cookie::parse(str::from_utf8(pair).ok()?).ok())
    }

    /// The value of the first cookie of that name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|cookie| cookie.name() == name)?.value_raw()
    }
}

impl Response {
    /// Has the client keep a cookie (`Set-Cookie`). To have it forget one, send it with [`Cookie::make_removal`], and with the
    /// same path and domain.
    ///
    /// # Errors
    /// 500 if a name, value, path or domain holds what none may hold (RFC 6265, 4.1.1), as a space, a comma or a semicolon:
    /// percent-encode such a value, or send it as base64.
    ///
    /// ```
    /// use greenserve::{IntoResponse, cookie::Cookie};
    ///
    /// let mut response = "welcome".into_response();
    /// response.set_cookie(Cookie::build(("session", "31d4d96e")).path("/").http_only(true).secure(true))?;
    /// assert_eq!(response.headers()["set-cookie"], "session=31d4d96e; HttpOnly; Secure; Path=/");
    /// assert!(response.set_cookie(("a", "1; Domain=evil.example")).is_err());
    /// # Ok::<_, greenserve::Error>(())
    /// ```
    pub fn set_cookie<'c>(&mut self, cookie: impl Into<Cookie<'c>>) -> Result<(), Error> {
        let cookie = cookie.into();
        let attribute = |text: Option<&str>| text.is_none_or(|text| text.bytes().all(is_attribute_byte));
        let wrong = match () {
            () if !is_name(cookie.name()) => "name",
            () if !is_value(cookie.value()) => "value",
            () if !attribute(cookie.path()) => "path",
            () if !attribute(cookie.domain()) => "domain",
            () => match HeaderValue::try_from(cookie.to_string()) {
                Ok(field) => {
                    self.headers_mut().append(header::SET_COOKIE, field);
                    return Ok(());
                }
                Err(_) => "form",
            },
        };
        let text = format!("the cookie {:?} has a {wrong} that no cookie may have", cookie.name());
        Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, text))
    }
}

/// A token (RFC 9110, 5.6.2).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// `*cookie-octet`, perhaps in quotes.
fn is_value(value: &str) -> bool {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

/// `av-octet` without what lies above ASCII.
fn is_attribute_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b';'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;

    fn request(fields: &[&[u8]]) -> Request {
        let mut req = Request::new(Body::empty());
        for field in fields {
            req.headers_mut().append(header::COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        req
    }

    #[test]
    fn cookies_of_all_fields_come_in_order_and_nonsense_is_left_out() {
        let req = request(&[b"a=1; b=\"2 3\";nonsense; =x; bad=\xff;; a=4", b"c=%20=5"]);
        let found: Vec<_> = req.cookies().map(|c| format!("{}:{}", c.name(), c.value())).collect();
        assert_eq!(found, ["a:1", "b:\"2 3\"", "a:4", "c:%20=5"]);
        assert_eq!((req.cookie("a"), req.cookie("c"), req.cookie("d")), (Some("1"), Some("%20=5"), None));
        assert_eq!(request(&[]).cookies().count(), 0);
    }

    #[test]
    fn nothing_gets_out_of_its_place_in_a_cookie() {
        let mut response = Response::new(Body::empty());
        for (name, value) in
            [("a", "1;b"), ("a", "1\r\nx: y"), ("a b", "1"), ("", "1"), ("a", "ü"), ("a", "\"")]
        {
            assert_eq!(response.set_cookie((name, value)).unwrap_err().status(), 500, "{name}={value}");
        }
        assert!(response.set_cookie(Cookie::build(("a", "1")).path("/; Secure")).is_err());
        assert!(response.set_cookie(Cookie::build(("a", "1")).domain("x\r\n")).is_err());
        assert!(response.headers().is_empty());
        for value in ["", "1", "\"quoted\"", "a=b%20c/d+e=="] {
            response.set_cookie(("a", value)).unwrap();
        }
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 4);
    }
}
