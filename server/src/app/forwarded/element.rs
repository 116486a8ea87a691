//! How `Forwarded` and `X-Forwarded-For` are written (RFC 7239, 4 to 6).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::is_token_byte;

/// What one proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'h> {
    /// `for`, if it is an address.
    pub(super) client: Option<IpAddr>,
    /// `host`, whatever it is.
    pub(super) host: Option<Cow<'h, [u8]>>,
    /// `proto`, whatever it is.
    pub(super) proto: Option<Cow<'h, [u8]>>,
}

/// Adds the elements of one line; empty ones are skipped. `None`: it breaks the grammar.
pub(super) fn elements<'h>(line: &'h [u8], found: &mut Vec<Element<'h>>) -> Option<()> {
    let mut rest = line;
    loop {
        let mut element = Element::default();
        // The names seen, of those that matter and of all others together.
        let (mut seen, mut any) = ([false; 4], false);
        loop {
            rest = rest.trim_ascii_start();
            if rest.first().is_some_and(|byte| !matches!(byte, b';' | b',')) {
                let (name, value) = pair(&mut rest)?;
                any = true;
                let at = ["for", "host", "proto", "by"].iter().position(|known| known.as_bytes() == name);
                // None may occur twice in an element (4); of extensions nobody asks.
                if at.is_some_and(|at| std::mem::replace(&mut seen[at], true)) {
                    return None;
                }
                match at {
                    Some(0) => element.client = node(&value)?,
                    Some(1) => element.host = Some(value),
                    Some(2) => element.proto = Some(value),
                    _ => {}
                }
            }
            rest = rest.trim_ascii_start();
            match rest.split_first() {
                Some((b';', behind)) => rest = behind,
                _ => break,
            }
        }
        if any {
            found.push(element);
        }
        match rest.split_first() {
            Some((b',', behind)) => rest = behind,
            Some(_) => return None,
            None => return Some(()),
        }
    }
}

/// Takes off `token "=" value`; the name in lower case.
fn pair<'h>(rest: &mut &'h [u8]) -> Option<(Vec<u8>, Cow<'h, [u8]>)> {
    let name = token(rest)?.to_ascii_lowercase();
    *rest = rest.strip_prefix(b"=")?;
    let value = match rest.strip_prefix(b"\"") {
        Some(behind) => {
            *rest = behind;
            quoted(rest)?
        }
        None => Cow::Borrowed(token(rest)?),
    };
    Some((name, value))
}

fn token<'h>(rest: &mut &'h [u8]) -> Option<&'h [u8]> {
    let end = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
    let (token, behind) = rest.split_at(end);
    *rest = behind;
    (end > 0).then_some(token)
}

/// Takes off the rest of a quoted string (RFC 9110, 5.6.4), of which the first `"` is gone.
fn quoted<'h>(rest: &mut &'h [u8]) -> Option<Cow<'h, [u8]>> {
    let mut text: Cow<'h, [u8]> = Cow::Borrowed(&[]);
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (plain, behind) = rest.split_at(end);
        if text.is_empty() {
            text = Cow::Borrowed(plain);
        } else {
            text.to_mut().extend_from_slice(plain);
        }
        match behind {
            [b'\\', escaped, behind @ ..] => {
                text.to_mut().push(*escaped);
                *rest = behind;
            }
            [b'"', behind @ ..] => {
                *rest = behind;
                return Some(text);
            }
            _ => return None,
        }
    }
}

/// The address in a node (6); `Some(None)` for `unknown` and obfuscated names. `None`: it is no node.
fn node(text: &[u8]) -> Option<Option<IpAddr>> {
    let text = std::str::from_utf8(text).ok()?;
    let (name, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (address, behind) = inside.split_once(']')?;
            let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical();
            (Some(address), behind.strip_prefix(':').or(behind.is_empty().then_some("0")))
        }
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, "0"));
            let hidden = name.eq_ignore_ascii_case("unknown") || is_obfuscated(name);
            let address = if hidden { None } else { Some(IpAddr::V4(name.parse::<Ipv4Addr>().ok()?)) };
            (address, Some(port))
        }
    };
    let port = port?;
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (digits || is_obfuscated(port)).then_some(name)
}

/// `obfnode` and `obfport` (6.3).
fn is_obfuscated(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_part))
}

/// The address in an element of `X-Forwarded-For`, of which there is no grammar: an address, an IPv6 one with or without
/// brackets, and perhaps a port.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(IpAddr::V6(address).to_canonical()),
        Err(_) => node(text.as_bytes())?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client, host and scheme.
    type Shown = (Option<String>, Option<String>, Option<String>);

    fn read(line: &str) -> Option<Vec<Shown>> {
        let mut found = Vec::new();
        elements(line.as_bytes(), &mut found)?;
        let text = |bytes: Cow<'_, [u8]>| String::from_utf8(bytes.into_owned()).unwrap();
        let shown = found.into_iter().map(|element| {
            (element.client.map(|ip| ip.to_string()), element.host.map(text), element.proto.map(text))
        });
        Some(shown.collect())
    }

    #[test]
    fn elements_that_are_well_formed() {
        let (for_, none) = (|ip: &str| (Some(ip.to_owned()), None, None), (None, None, None));
        let rows = [
            ("RFC 7239 4: an obfuscated name", r#"for="_gazonk""#, vec![none.clone()]),
            ("4: names in any case", r#"For="[2001:db8:cafe::17]:4711""#, vec![for_("2001:db8:cafe::17")]),
            (
                "4: several pairs",
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                vec![(Some("192.0.2.60".into()), None, Some("http".into()))],
            ),
            (
                "4: a list",
                "for=192.0.2.43, for=198.51.100.17",
                vec![for_("192.0.2.43"), for_("198.51.100.17")],
            ),
            (
                "4: white space",
                " for=192.0.2.43 ; proto=x\t,\tfor=\"192.0.2.1\" ",
                vec![(Some("192.0.2.43".into()), None, Some("x".into())), for_("192.0.2.1")],
            ),
            ("4: empty pairs and elements", ",; ,for=192.0.2.43;;, ,", vec![for_("192.0.2.43")]),
            ("4: extensions, even twice", "a=b;for=192.0.2.43;a=\"c,d;e\"", vec![for_("192.0.2.43")]),
            ("5.3: host", r#"host="example.com:8080""#, vec![(None, Some("example.com:8080".into()), None)]),
            (
                "RFC 9110 5.6.4: quoted pairs",
                r#"host="a\"\b,c\\""#,
                vec![(None, Some(r#"a"b,c\"#.into()), None)],
            ),
            ("9110 5.6.4: an empty one", r#"host="";for=unknown"#, vec![(None, Some(String::new()), None)]),
            ("6.1: a port", r#"for="192.0.2.43:47011""#, vec![for_("192.0.2.43")]),
            ("6.1: brackets", r#"for="[::1]""#, vec![for_("::1")]),
            ("6.1: IPv4 in IPv6", r#"for="[::ffff:192.0.2.1]""#, vec![for_("192.0.2.1")]),
            ("6.2: unknown", "for=Unknown", vec![none.clone()]),
            ("6.3: an obfuscated port", r#"for="192.0.2.43:_p-1.x""#, vec![for_("192.0.2.43")]),
            ("6.3: unknown with a port", r#"for="unknown:80""#, vec![none]),
            ("nothing at all", "", vec![]),
        ];
        for (name, line, expected) in rows {
            assert_eq!(read(line), Some(expected), "{name}");
        }
    }

    #[test]
    fn elements_that_are_malformed() {
        for (name, line) in [
            ("4: twice in an element", "for=192.0.2.43;For=192.0.2.44"),
            ("4: twice in an element", "host=a;host=a"),
            ("4: no value", "for="),
            ("4: no pair", "for"),
            ("4: no name", "=a"),
            ("4: white space around =", "for =192.0.2.43"),
            ("4: white space around =", "for= 192.0.2.43"),
            ("4: two pairs without ;", "for=192.0.2.43 proto=http"),
            ("4: brackets and colons must be quoted", "for=[::1]"),
            ("4: brackets and colons must be quoted", "for=192.0.2.43:80"),
            ("9110 5.6.4: an open quote", r#"for="192.0.2.43"#),
            ("9110 5.6.4: an open quote", r#"for="192.0.2.43\"#),
            ("9110 5.6.4: something behind the quote", r#"for="192.0.2.43"x"#),
            ("the client's quote around the proxy's", r#"for="_x, for="[2001:db8::1]""#),
            ("6: IPv6 without brackets", r#"for="2001:db8::1""#),
            ("6: no address", "for=example.com"),
            ("6: zeros in front", "for=192.0.2.043"),
            ("6: empty", r#"for="""#),
            ("6: an empty port", r#"for="192.0.2.43:""#),
            ("6: a port too long", r#"for="192.0.2.43:123456""#),
            ("6: something behind the bracket", r#"for="[::1]80""#),
            ("6.3: an empty obfuscated name", "for=_"),
        ] {
            assert_eq!(read(line), None, "{name}: {line}");
        }
    }

    #[test]
    fn addresses_of_the_older_header() {
        for (text, ip) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(address(text.as_bytes()), ip.parse().ok(), "{text}");
        }
        for text in
            ["", "unknown", "_x", "192.0.2", "192.0.2.1:", "192.0.2.1:x", "[::1", "\"::1\"", "é", "a b"]
        {
            assert_eq!(address(text.as_bytes()), None, "{text}");
        }
    }
}
