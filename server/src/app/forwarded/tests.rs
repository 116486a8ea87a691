use std::rc::Rc;

use super::*;
use crate::app::{Came, came};
use crate::http::uwsgi::Vars;
use crate::http::{HeadReader, KnownFields, Limits};

/// A connection from somewhere.
pub(in crate::app) struct From {
    pub(in crate::app) peer: Addr,
    pub(in crate::app) local: Option<Addr>,
    pub(in crate::app) trust: Trust,
    pub(in crate::app) secure: bool,
    pub(in crate::app) proxied: bool,
    pub(in crate::app) vars: Option<Vars>,
}

impl From {
    pub(in crate::app) fn peer(ip: &str) -> From {
        let peer = match ip {
            "unix" => Addr::Unix(None),
            ip => Addr::Inet((ip.parse::<IpAddr>().unwrap(), 4711).into()),
        };
        let local = Some(Addr::Inet(([192, 0, 2, 80], 8000).into()));
        let trust = Trust { peers: "127.0.0.1,10.0.0.0/8".parse().unwrap(), ..Trust::default() };
        From { peer, local, trust, secure: false, proxied: false, vars: None }
    }
}

impl Connection for From {
    fn read_body(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn body_remaining(&self, _: u64) -> Option<u64> {
        Some(0)
    }

    fn peer_addr(&self) -> Addr {
        self.peer.clone()
    }

    fn local_addr(&self) -> Option<Addr> {
        self.local.clone()
    }

    fn vars(&self) -> Option<&Vars> {
        self.vars.as_ref()
    }

    fn origin(&self) -> Origin<'_> {
        let From { secure, proxied, .. } = *self;
        Origin { trust: Some(&self.trust), secure, proxied, multithread: false, multiprocess: false }
    }
}

fn head(text: &str) -> Rc<Came> {
    let found = HeadReader::default()
        .read(text.as_bytes(), &Limits::default(), &mut KnownFields::default())
        .unwrap()
        .expect("a whole head");
    came(text.as_bytes(), found.head.unwrap())
}

/// A request with these header lines, each without CRLF.
pub(in crate::app) fn request(from: From, line: &str, headers: &[&str]) -> Request {
    let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    Request::incoming(head(&format!("{line}\r\n{lines}\r\n")), Rc::new(from), 0)
}

fn get(peer: &str, headers: &[&str]) -> Request {
    let all: Vec<_> = ["Host: own.example"].iter().chain(headers).copied().collect();
    request(From::peer(peer), "GET /a HTTP/1.1", &all)
}

const TRUSTED: &str = "127.0.0.1";
const STRANGER: &str = "192.0.2.9";

#[test]
fn the_scheme_follows_gunicorns_table() {
    let https = Ok("https");
    for (headers, expected) in [
        (&[][..], Ok("http")),
        (&["X-Forwarded-Proto: https"], https),
        (&["x-forwarded-PROTO: https"], https),
        (&["X-Forwarded-Protocol: ssl"], https),
        (&["X-Forwarded-Ssl: on"], https),
        (&["X-Forwarded-Proto: http"], Ok("http")),
        (&["X-Forwarded-Proto: HTTPS"], Ok("http")),
        (&["X-Forwarded-Proto: https,http"], Ok("http")),
        (&["X-Forwarded-Ssl: on", "X-Forwarded-Proto: https"], https),
        (&["X-Forwarded-Ssl: on", "X-Forwarded-Proto: http"], Err(ForwardedError::Scheme)),
        (&["X-Forwarded-Proto: https", "X-Forwarded-Proto: http"], Err(ForwardedError::Scheme)),
        // RFC 7239, 5.4
        (&["Forwarded: for=192.0.2.1;proto=https"], https),
        (&["Forwarded: proto=\"HTTPS\""], https),
        (&["Forwarded: proto=http"], Ok("http")),
        (&["Forwarded: proto=https", "X-Forwarded-Proto: https"], https),
        (&["Forwarded: proto=https", "X-Forwarded-Proto: http"], Err(ForwardedError::Scheme)),
        (&["Forwarded: proto=https;"], https),
        (&["Forwarded: proto"], Err(ForwardedError::Malformed)),
        // The element of the outermost proxy that is trusted counts.
        (&["Forwarded: proto=https, for=192.0.2.1;proto=http"], Ok("http")),
        (&["Forwarded: for=192.0.2.1;proto=https, for=10.0.0.1;proto=http"], https),
    ] {
        assert_eq!(get(TRUSTED, headers).scheme(), expected, "{headers:?}");
        assert_eq!(get("unix", headers).scheme(), expected, "a Unix socket is trusted: {headers:?}");
        assert_eq!(get("::ffff:127.0.0.1", headers).scheme(), expected, "{headers:?}");
        assert_eq!(get(STRANGER, headers).scheme(), Ok("http"), "from a stranger: {headers:?}");
    }
}

#[test]
fn a_connection_with_tls_is_https_unless_a_trusted_proxy_says_otherwise() {
    let secure = |peer: &str, headers: &[&str]| {
        let from = From { secure: true, ..From::peer(peer) };
        request(from, "GET / HTTP/1.0", headers).scheme().unwrap()
    };
    assert_eq!(secure(STRANGER, &["X-Forwarded-Proto: http"]), "https");
    assert_eq!(secure(TRUSTED, &[]), "https");
    assert_eq!(secure(TRUSTED, &["X-Forwarded-Proto: http"]), "http");
}

#[test]
fn other_scheme_headers_can_be_set() {
    let mut from = From::peer(TRUSTED);
    from.trust.scheme_headers = vec![("Front-End-Https".into(), "yes".into())];
    let req = request(from, "GET / HTTP/1.0", &["front-end-https: yes", "X-Forwarded-Proto: http"]);
    assert_eq!(req.scheme(), Ok("https"));
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    let client = |ip: &str| Ok(Some(ip.parse::<IpAddr>().unwrap()));
    let unknown = Ok(None);
    for (headers, expected) in [
        (&[][..], client(TRUSTED)),
        (&["X-Forwarded-For: 192.0.2.1"], client("192.0.2.1")),
        (&["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], client("192.0.2.1")),
        (&["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1 ,10.0.0.2"], client("192.0.2.1")),
        (&["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "x-forwarded-for: 10.0.0.1"], client("192.0.2.1")),
        (&["X-Forwarded-For: 10.0.0.7, 10.0.0.1"], client("10.0.0.7")),
        (&["X-Forwarded-For: 192.0.2.1:99, ::ffff:10.0.0.1"], client("192.0.2.1")),
        (&["X-Forwarded-For: [2001:db8::1]:99"], client("2001:db8::1")),
        (&["X-Forwarded-For: 192.0.2.1, unknown"], unknown),
        (&["X-Forwarded-For: 192.0.2.1, evil"], unknown),
        (&["X-Forwarded-For: evil, 192.0.2.1"], client("192.0.2.1")),
        (&["X-Forwarded-For: , ,"], client(TRUSTED)),
        // RFC 7239, 5.2, 6.2 and 6.3
        (&["Forwarded: for=192.0.2.1"], client("192.0.2.1")),
        (&["Forwarded: for=6.6.6.6, for=192.0.2.1, for=\"10.0.0.1:5\""], client("192.0.2.1")),
        (&["Forwarded: for=6.6.6.6, for=192.0.2.1", "Forwarded: for=10.0.0.1"], client("192.0.2.1")),
        (&["Forwarded: for=10.0.0.7, for=10.0.0.1"], client("10.0.0.7")),
        (&["Forwarded: for=6.6.6.6, for=unknown"], unknown),
        (&["Forwarded: for=6.6.6.6, for=_hidden, for=10.0.0.1"], unknown),
        (&["Forwarded: for=6.6.6.6, proto=http"], unknown),
        (&["Forwarded: for=\"[2001:db8::1]\";proto=http"], client("2001:db8::1")),
        (&["Forwarded: for=6.6.6.6;, for=\"192.0.2.1"], Err(ForwardedError::Malformed)),
        (&["Forwarded: for=192.0.2.1", "X-Forwarded-For: 6.6.6.6, 192.0.2.1"], client("192.0.2.1")),
        (&["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.1"], Err(ForwardedError::Client)),
        (&["Forwarded: for=unknown", "X-Forwarded-For: 192.0.2.1"], Err(ForwardedError::Client)),
    ] {
        assert_eq!(get(TRUSTED, headers).client_addr(), expected, "{headers:?}");
        assert_eq!(get(STRANGER, headers).client_addr(), client(STRANGER), "from a stranger: {headers:?}");
        let peer = get(TRUSTED, headers).peer_addr().unwrap().as_inet().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 1]), "the peer stays who it is");
    }
    assert_eq!(get("unix", &[]).client_addr(), unknown);
    assert_eq!(get("unix", &["X-Forwarded-For: 192.0.2.1"]).client_addr(), client("192.0.2.1"));
    assert_eq!(get("::ffff:192.0.2.9", &[]).client_addr(), client(STRANGER));
    let mut everybody = From::peer(STRANGER);
    everybody.trust.peers = "*".parse().unwrap();
    let req = request(everybody, "GET / HTTP/1.0", &["X-Forwarded-For: 6.6.6.6, 192.0.2.1"]);
    assert_eq!(req.client_addr(), client("6.6.6.6"));
}

#[test]
fn the_host_is_what_the_client_asked() {
    let host = |name: &'static str| Ok(Some(Cow::Borrowed(name)));
    for (headers, expected) in [
        (&[][..], host("own.example")),
        (&["X-Forwarded-Host: www.example:8080"], host("www.example:8080")),
        (&["X-Forwarded-Host: evil.example, www.example"], host("www.example")),
        (&["X-Forwarded-Host: evil.example", "X-Forwarded-Host: www.example"], host("www.example")),
        (&["X-Forwarded-Host: ,"], host("own.example")),
        (&["X-Forwarded-Host: a\"b"], Err(ForwardedError::Host)),
        (&["X-Forwarded-Host: user@www.example"], Err(ForwardedError::Host)),
        // RFC 7239, 5.3
        (&["Forwarded: host=www.example"], host("www.example")),
        (&["Forwarded: host=\"[::1]:80\""], host("[::1]:80")),
        (&["Forwarded: host=\"\""], Err(ForwardedError::Host)),
        (&["Forwarded: host=\"a/b\""], Err(ForwardedError::Host)),
        (&["Forwarded: host=evil.example, for=192.0.2.1"], host("own.example")),
        (&["Forwarded: host=www.example", "X-Forwarded-Host: WWW.example"], host("WWW.example")),
        (&["Forwarded: host=evil.example", "X-Forwarded-Host: www.example"], Err(ForwardedError::Host)),
    ] {
        assert_eq!(get(TRUSTED, headers).host(), expected, "{headers:?}");
        assert_eq!(get(STRANGER, headers).host(), host("own.example"), "from a stranger: {headers:?}");
    }
    let absolute = request(From::peer(STRANGER), "GET http://target.example:81/ HTTP/1.1", &["Host: other"]);
    assert_eq!(absolute.host(), host("target.example:81"), "RFC 9112, 3.2.2");
    let none = request(From::peer(STRANGER), "GET / HTTP/1.0", &[]);
    assert_eq!(none.host(), Ok(None));
}

#[test]
fn a_header_that_was_taken_away_counts_no_more() {
    let mut req = get(TRUSTED, &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"]);
    req.headers_mut().remove("x-forwarded-for");
    assert_eq!(req.client_addr(), Ok(TRUSTED.parse().ok()));
    assert_eq!(req.scheme(), Ok("https"));
}

#[test]
fn requests_made_by_hand_trust_nobody() {
    let made = |uri: &str| {
        let req = ::http::Request::get(uri).header("host", "h").header("x-forwarded-proto", "https");
        Request::from(req.header("x-forwarded-for", "1.2.3.4").body(crate::Body::empty()).unwrap())
    };
    let req = made("/");
    assert_eq!((req.scheme(), req.client_addr(), req.host()), (Ok("http"), Ok(None), Ok(Some("h".into()))));
    assert_eq!(made("https://a:1/").scheme(), Ok("https"));
    assert_eq!(made("https://a:1/").host(), Ok(Some("a:1".into())));
}

#[test]
fn refused_are_names_with_underscores_that_no_trusted_peer_may_send() {
    let trust = From::peer(TRUSTED).trust;
    let refuses = |peer: &str, lines: &str| {
        let head = format!("GET /a_b HTTP/1.1\r\nHost: a_b\r\n{lines}\r\n");
        trust.refuses(&From::peer(peer).peer, head.as_bytes())
    };
    for (lines, stranger, trusted) in [
        ("", false, false),
        ("X-A: b_c\r\n", false, false),
        ("X_A: b\r\n", true, true),
        ("script_name: /a\r\n", true, false),
        ("script_name: /a\r\nX-A_B: c\r\n", true, true),
    ] {
        assert_eq!((refuses(STRANGER, lines), refuses(TRUSTED, lines)), (stranger, trusted), "{lines}");
    }
}

#[test]
fn an_error_that_a_handler_lets_through_is_the_clients() {
    for error in
        [ForwardedError::Scheme, ForwardedError::Client, ForwardedError::Host, ForwardedError::Malformed]
    {
        assert_eq!(error.into_response().status(), 400);
        assert_eq!(io::Error::from(error).into_response().status(), 400);
        assert_eq!(ForwardedError::of(&error.into()), Some(error));
    }
    assert_eq!(ForwardedError::ScriptName.into_response().status(), 500);
}
