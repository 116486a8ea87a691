//! The server's part of the opening handshake (RFC 6455, 4.2): what a request has to say, as pure functions.

use ::http::{HeaderValue, Method, StatusCode, Version, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tungstenite::handshake::derive_accept_key;

use crate::{IntoResponse, Request, Response};

/// Who may open a WebSocket from a page.
#[derive(Debug, Clone)]
pub(super) enum Origins {
    /// Pages of the host that the request was sent to.
    Same,
    /// Those, and pages of these origins.
    Also(Vec<String>),
    Any,
}

/// What a good handshake has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub(super) key: String,
    pub(super) protocol: Option<String>,
}

/// Looks at a request for a WebSocket; the error is the answer that refuses it.
pub(super) fn check(
    req: &Request,
    origins: &Origins,
    protocols: &[String],
) -> Result<Accepted, Box<Response>> {
    let is_asked = req.upgrade_protocols().iter().any(|name| name.eq_ignore_ascii_case("websocket"));
    if req.version() != Version::HTTP_11 || !is_asked {
        return Err(upgrade_required("this is a WebSocket\n"));
    }
    if req.method() != Method::GET {
        let refusal =
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], "WebSockets begin with GET\n");
        return Err(Box::new(refusal.into_response()));
    }
    if only(req, "sec-websocket-version").map(<[u8]>::trim_ascii) != Some(b"13") {
        return Err(upgrade_required("of WebSockets version 13 is spoken here\n"));
    }
    let key = only(req, "sec-websocket-key").map(<[u8]>::trim_ascii);
    let Some(key) = key.filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16)) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not one key of 16 bytes\n"));
    };
    if !may_connect(req, origins) {
        return Err(refuse(StatusCode::FORBIDDEN, "pages of this origin may not open this WebSocket\n"));
    }
    let offered: Vec<&str> = values(req, "sec-websocket-protocol")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let protocol = protocols.iter().find(|ours| offered.contains(&ours.as_str())).cloned();
    Ok(Accepted { key: derive_accept_key(key), protocol })
}

fn refuse(status: StatusCode, text: &'static str) -> Box<Response> {
    Box::new((status, text).into_response())
}

/// 426 with what would have been right (RFC 6455, 4.4).
fn upgrade_required(text: &'static str) -> Box<Response> {
    let mut refusal = refuse(StatusCode::UPGRADE_REQUIRED, text);
    refusal.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    refusal.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    refusal
}

fn values<'r>(req: &'r Request, name: &'static str) -> impl Iterator<Item = &'r [u8]> {
    let fields = req.headers_in_order();
    fields.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The value of a field that may be there once only.
fn only<'r>(req: &'r Request, name: &'static str) -> Option<&'r [u8]> {
    let mut values = values(req, name);
    values.next().filter(|_| values.next().is_none())
}

fn may_connect(req: &Request, origins: &Origins) -> bool {
    let mut sent = values(req, "origin");
    let Some(origin) = sent.next() else { return true };
    if matches!(origins, Origins::Any) {
        return true;
    }
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    if sent.next().is_some() {
        return false;
    }
    if let Origins::Also(others) = origins
        && others.iter().any(|other| other.eq_ignore_ascii_case(origin))
    {
        return true;
    }
    // Of the scheme nothing can be said: TLS may have ended at a proxy.
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let host = without_default_port(host, scheme);
    let asked = only(req, "host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    !host.is_empty() && without_default_port(asked.trim(), scheme).eq_ignore_ascii_case(host)
}

fn without_default_port<'a>(host: &'a str, scheme: &str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(changes: &[(&'static str, &str)]) -> Request {
        let mut req = Request::new(Body::empty());
        let good = [
            ("host", "a.example"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        for (name, value) in good {
            req.headers_mut().insert(name, value.parse().unwrap());
        }
        for (name, value) in changes {
            match *value {
                "" => drop(req.headers_mut().remove(*name)),
                value if value.starts_with('+') => {
                    req.headers_mut().append(*name, value[1..].parse().unwrap());
                }
                value => drop(req.headers_mut().insert(*name, value.parse().unwrap())),
            }
        }
        req
    }

    fn status(req: &Request) -> u16 {
        check(req, &Origins::Same, &[]).err().map_or(101, |refusal| refusal.status().as_u16())
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let accepted = check(&request(&[]), &Origins::Same, &[]).unwrap();
        assert_eq!(accepted, Accepted { key: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into(), protocol: None });
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_refused_with_its_status() {
        for (changes, expected) in [
            (&[("upgrade", "")][..], 426),
            (&[("connection", "keep-alive")], 426),
            (&[("upgrade", "h2c")], 426),
            (&[("upgrade", "h2c, websocket")], 101),
            (&[("sec-websocket-version", "")], 426),
            (&[("sec-websocket-version", "8")], 426),
            (&[("sec-websocket-version", "+13")], 426),
            (&[("sec-websocket-key", "")], 400),
            (&[("sec-websocket-key", "c2hvcnQ=")], 400),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], 400),
            (&[("sec-websocket-key", "+dGhlIHNhbXBsZSBub25jZQ==")], 400),
        ] {
            assert_eq!(status(&request(changes)), expected, "{changes:?}");
        }
        let mut post = request(&[]);
        *post.method_mut() = Method::POST;
        assert_eq!(status(&post), 405);
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one() {
        let refusal = check(&request(&[("sec-websocket-version", "12")]), &Origins::Same, &[]).unwrap_err();
        assert_eq!(refusal.headers()["sec-websocket-version"], "13");
        assert_eq!(refusal.headers()["upgrade"], "websocket");
    }

    #[test]
    fn pages_of_other_origins_are_kept_out() {
        let others = Origins::Also(vec!["https://b.example:8443".into()]);
        for (host, origin, same, also) in [
            ("a.example", "http://a.example", true, true),
            ("a.example", "https://A.example", true, true),
            ("a.example:80", "http://a.example", true, true),
            ("a.example", "https://a.example:443", true, true),
            ("a.example:8000", "http://a.example:8000", true, true),
            ("a.example:8000", "http://a.example", false, false),
            ("a.example", "http://a.example.evil", false, false),
            ("a.example", "http://evil/a.example", false, false),
            ("a.example", "null", false, false),
            ("a.example", "http://", false, false),
            ("a.example", "https://b.example:8443", false, true),
            ("a.example", "https://b.example", false, false),
        ] {
            let req = request(&[("host", host), ("origin", origin)]);
            assert_eq!(may_connect(&req, &Origins::Same), same, "{host} {origin}");
            assert_eq!(may_connect(&req, &others), also, "{host} {origin}");
            assert!(may_connect(&req, &Origins::Any));
        }
        assert!(may_connect(&request(&[]), &Origins::Same), "programs have no origin");
    }

    #[test]
    fn the_servers_order_decides_on_the_subprotocol() {
        let ours = ["v2".to_owned(), "v1".to_owned()];
        let chosen = |changes: &[(&'static str, &str)]| {
            check(&request(changes), &Origins::Same, &ours).unwrap().protocol
        };
        assert_eq!(chosen(&[("sec-websocket-protocol", "v1, v2")]).as_deref(), Some("v2"));
        assert_eq!(
            chosen(&[("sec-websocket-protocol", "v3"), ("sec-websocket-protocol", "+v1")]).as_deref(),
            Some("v1")
        );
        assert_eq!(chosen(&[("sec-websocket-protocol", "V1")]), None);
        assert_eq!(chosen(&[]), None);
    }
}
