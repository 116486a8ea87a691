//! The request target and what it may look like (RFC 9112, 3.2).

use super::ParseError;

/// Checks the target's bytes and that it has a form which `method` allows.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<(), ParseError> {
    if !target.iter().all(|b| is_target_byte(*b)) {
        return Err(ParseError::TargetByte);
    }
    let fits = match target {
        _ if method == b"CONNECT" => is_authority_form(target),
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        _ => is_absolute_form(target),
    };
    // What is handed on later must be a `Uri`.
    let fits = fits && ::http::Uri::try_from(target).is_ok();
    if fits { Ok(()) } else { Err(ParseError::TargetForm) }
}

/// Where the target that begins at `start` has its first `?`, if it has one, and where it ends. Up to there it is a `Uri` if
/// it begins with `/`.
#[inline]
pub(super) fn extent(bytes: &[u8], start: usize) -> (usize, usize) {
    let run = |mut at: usize, table: &[bool; 256]| {
        while bytes.get(at).is_some_and(|byte| table[*byte as usize]) {
            at += 1;
        }
        at
    };
    let path_end = run(start, &PATH);
    match bytes.get(path_end) {
        Some(b'?') => (path_end, run(path_end, &TARGET)),
        _ => (path_end, path_end),
    }
}

/// A byte of a token (RFC 9110, 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether `host` is `uri-host [":" port]` (RFC 9110, 7.2): a name, an IPv4 address or an IPv6 address in brackets.
/// Empty is not: no `http` URI has an empty host (RFC 9110, 4.2.1).
pub(crate) fn is_host(host: &[u8]) -> bool {
    split_host(host).is_some_and(|port| is_port(port.unwrap_or_default()))
}

/// Checks the host's name; gives its port, if there is a colon.
fn split_host(host: &[u8]) -> Option<Option<&[u8]>> {
    if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|b| *b == b']')?;
        let address = std::str::from_utf8(&rest[..end]).ok()?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        return match &rest[end + 1..] {
            [] => Some(None),
            [b':', port @ ..] => Some(Some(port)),
            _ => None,
        };
    }
    let name_len = host.iter().position(|b| !REG_NAME[*b as usize]).unwrap_or(host.len());
    match &host[name_len..] {
        [] if name_len > 0 => Some(None),
        [b':', port @ ..] if name_len > 0 => Some(Some(port)),
        [b'%', ..] => split_encoded_host(host),
        _ => None,
    }
}

/// A name with percent-encoded bytes in it.
fn split_encoded_host(host: &[u8]) -> Option<Option<&[u8]>> {
    let name_len = host.iter().position(|b| *b == b':').unwrap_or(host.len());
    let mut name = &host[..name_len];
    while let [first, rest @ ..] = name {
        name = match (first, rest) {
            (b'%', [a, b, rest @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            (byte, rest) if REG_NAME[*byte as usize] => rest,
            _ => return None,
        };
    }
    Some(host.get(name_len + 1..))
}

/// An empty port is allowed by the grammar and means the default (RFC 3986, 3.2.3).
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')) <= 65535
}

/// `host:port`, the port not optional (RFC 9110, 9.3.6).
fn is_authority_form(target: &[u8]) -> bool {
    matches!(split_host(target), Some(Some(port)) if !port.is_empty() && is_port(port))
}

/// `http://host[:port][/path][?query]`, or `https`; user information is refused (RFC 9110, 4.2.4).
fn is_absolute_form(target: &[u8]) -> bool {
    let after = |scheme: &[u8]| {
        (target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
            .then(|| &target[scheme.len()..])
    };
    let Some(rest) = after(b"http://").or_else(|| after(b"https://")) else { return false };
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    is_host(&rest[..end])
}

/// Visible ASCII but for what no client leaves unencoded: `"`, `<`, `>` and the fragment's `#`. Browsers do send `|`, `^`,
/// `{` and the like in a query, so these pass although RFC 3986 would have them encoded.
fn is_target_byte(byte: u8) -> bool {
    TARGET[byte as usize]
}

/// The same without `?`, and without the one of them that a `Uri` has in its query only.
static PATH: [bool; 256] = table(b"!$%&'()*+,-./:;=@[\\]^_{|}~");
static TARGET: [bool; 256] = table(b"!$%&'()*+,-./:;=?@[\\]^_`{|}~");

static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// What a name holds unencoded: unreserved and sub-delims (RFC 3986, 3.2.2).
static REG_NAME: [bool; 256] = table(b"-._~!$&'()*+,;=");

/// Letters, digits and `others`.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut n = 0;
    while n < others.len() {
        table[others[n] as usize] = true;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "a.b:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:8", "a_b", "x%20y", "localhost"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:65536", "a:123456", "u@a", "a b", "a/b", "[::1", "[::1]x", "[g]", "a%2",
            "a,\x7f", "é", "a?b", "a:80:80", "[]", "a#",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_four_forms_and_their_methods() {
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/a?b=c:d&e|f"),
            ("GET", "//double"),
            ("GET", "http://a"),
            ("GET", "HTTPS://a:1/b?c"),
            ("GET", "http://a?b"),
            ("OPTIONS", "*"),
            ("OPTIONS", "/"),
            ("CONNECT", "a:443"),
            ("CONNECT", "[::1]:443"),
        ] {
            assert_eq!(check(method.as_bytes(), target.as_bytes()), Ok(()), "{method} {target}");
        }
        for (method, target) in [
            ("GET", "*"),
            ("GET", "foo"),
            ("GET", "a:80"),
            ("GET", "?a"),
            ("GET", "http://"),
            ("GET", "http:///a"),
            ("GET", "http://u@a/"),
            ("GET", "ftp://a/"),
            ("GET", "http:/a"),
            ("OPTIONS", "**"),
            ("CONNECT", "/"),
            ("CONNECT", "a"),
            ("CONNECT", "a:"),
            ("CONNECT", "http://a:1/"),
            ("GET", ""),
        ] {
            assert_eq!(
                check(method.as_bytes(), target.as_bytes()),
                Err(ParseError::TargetForm),
                "{method} {target}"
            );
        }
    }

    #[test]
    fn bytes_that_must_be_encoded() {
        for bad in [&b"/\xff"[..], b"/a#b", b"/\x01", b"/\x7f", b"/\"", b"/<", b"/a\tb", "/é".as_bytes()] {
            assert_eq!(check(b"GET", bad), Err(ParseError::TargetByte), "{bad:?}");
        }
    }

    #[test]
    fn what_passes_is_a_uri() {
        for byte in (0..=255).filter(|byte| is_target_byte(*byte)) {
            for target in [&b"/a"[..], b"/a?b", b"/a?b?", b"/", b"//"] {
                let target = [target, &[byte, b'x', byte]].concat();
                if byte == b'`' && !target.contains(&b'?') {
                    assert_eq!(check(b"GET", &target), Err(ParseError::TargetForm));
                    assert!(extent(&target, 0).1 < target.len());
                    continue;
                }
                let uri = ::http::Uri::try_from(&target[..]).unwrap();
                assert_eq!(uri.path_and_query().unwrap().as_str().as_bytes(), target);
                let (path_end, end) = extent(&target, 0);
                assert_eq!((&target[..path_end], end), (uri.path().as_bytes(), target.len()));
            }
        }
        assert_eq!(extent(b"GET /a?b?c d", 4), (6, 10));
        let longest = [
            b"/".as_slice(),
            &vec![b'x'; crate::http::Limits { request_line: 0, ..Default::default() }.line() - 15],
        ];
        assert!(::http::Uri::try_from(&longest.concat()[..]).is_ok());
    }
}
