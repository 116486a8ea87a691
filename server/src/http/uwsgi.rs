//! The uwsgi protocol, in which a front server such as nginx hands requests on (`uwsgi_pass`): a packet of variables with the
//! request's body behind it, one on each connection, answered by an HTTP response that ends with the connection.
//!
//! A packet is four bytes, `modifier1`, the size of what follows as 16 bits with the low byte first, and `modifier2`; then
//! pairs of name and value, each string behind its length of 16 bits. [`read`] takes it apart; [`Vars::head`] makes an
//! HTTP/1.x head of it, which the one reader of heads then judges. So every rule and limit of HTTP holds here as well, and is
//! written down once; what must be seen to here is that no variable says more in that head than it may.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::ParseError;
use super::target::{is_host, is_token_byte};

/// What stands before the variables.
const HEADER: usize = 4;
/// `modifier1` of a request in WSGI's terms. All others are for interpreters and for uWSGI's own traffic.
const WSGI: u8 = 0;
/// gunicorn's limit. How many of them may be header fields is `limit_request_fields`.
const MOST: usize = 1000;

/// The variables of a request that came by the uwsgi protocol, in the terms of CGI (RFC 3875, 4.1): `REQUEST_METHOD`,
/// `PATH_INFO`, `REMOTE_USER`, and whatever else the front server was told to send (nginx's `uwsgi_param`).
///
/// Names are printable ASCII; values are any bytes but NUL. Where a name came more than once the last one counts.
#[derive(Clone)]
pub struct Vars {
    /// All pairs as they came, known to be well-formed.
    block: Box<[u8]>,
}

/// Reads the packet that `bytes` begin with; gives its length, too. `None`: more input is needed, and the next call must
/// show the same bytes and those that came since.
///
/// # Errors
/// It is none, or no request, or its lengths lead beyond its end. The connection can't be used for reading any more.
pub fn read(bytes: &[u8]) -> Result<Option<(Vars, usize)>, ParseError> {
    match bytes.first() {
        Some(&WSGI) | None => {}
        Some(_) => return Err(ParseError::Packet),
    }
    let [_, low, high, _, rest @ ..] = bytes else { return Ok(None) };
    let size = usize::from(u16::from_le_bytes([*low, *high]));
    let Some(block) = rest.get(..size) else { return Ok(None) };
    Ok(Some((Vars::new(block)?, HEADER + size)))
}

impl Vars {
    fn new(block: &[u8]) -> Result<Vars, ParseError> {
        let (mut rest, mut count) = (block, 0);
        while !rest.is_empty() {
            let (name, value, behind) = pair(rest).ok_or(ParseError::VariableLength)?;
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                return Err(ParseError::VariableName);
            }
            if memchr::memchr(0, value).is_some() {
                return Err(ParseError::VariableValue);
            }
            rest = behind;
            count += 1;
            if count > MOST {
                return Err(ParseError::TooManyFields);
            }
        }
        Ok(Vars { block: block.into() })
    }

    /// The value of the variable of that name, which is compared byte for byte.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(found, _)| *found == name).last().map(|(_, value)| value)
    }

    /// All of them in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &*self.block;
        std::iter::from_fn(move || {
            let (name, value, behind) = pair(rest)?;
            rest = behind;
            // It is ASCII.
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// The value, unless it is empty: so a front server says that there is none.
    pub(crate) fn said(&self, name: &str) -> Option<&[u8]> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The address that the front server had the request from, by `REMOTE_ADDR` and `REMOTE_PORT`. `None`: it doesn't say, or
    /// it was no TCP connection.
    pub fn client(&self) -> Option<SocketAddr> {
        let text = |name| std::str::from_utf8(self.said(name)?).ok();
        let ip: IpAddr = text("REMOTE_ADDR")?.parse().ok()?;
        Some(SocketAddr::new(ip, text("REMOTE_PORT").and_then(|port| port.parse().ok()).unwrap_or(0)))
    }

    /// Whether the client speaks TLS to the front server, by `HTTPS` (`on`, `1` or `true`), or else by `REQUEST_SCHEME` or
    /// `UWSGI_SCHEME`. `None`: it doesn't say.
    pub fn is_secure(&self) -> Option<bool> {
        if let Some(https) = self.said("HTTPS") {
            return Some([&b"on"[..], b"1", b"true"].iter().any(|yes| https.eq_ignore_ascii_case(yes)));
        }
        let scheme = self.said("REQUEST_SCHEME").or_else(|| self.said("UWSGI_SCHEME"))?;
        Some(scheme.eq_ignore_ascii_case(b"https"))
    }

    /// The request as an HTTP/1.x head, up to the empty line inclusive, to be read by a [`HeadReader`](super::HeadReader).
    ///
    /// - The version is 1.0 if the client's was, or 0.9; else 1.1, whatever the client spoke to the front server.
    /// - `HTTP_X_A` is the field `x-a`; of these each one counts. The body is framed by `CONTENT_LENGTH` alone, since the front
    ///   server has taken off any other framing: `HTTP_CONTENT_LENGTH` and `HTTP_TRANSFER_ENCODING`, in which it repeats what
    ///   the client said, are left out, and `HTTP_CONTENT_TYPE` is for `CONTENT_TYPE`.
    /// - Without `HTTP_HOST` there is the host `SERVER_NAME:SERVER_PORT`, if that is one.
    /// - The target is `REQUEST_URI`, if that agrees with `PATH_INFO` and `QUERY_STRING`, so far as they came. If not, the
    ///   front server has rewritten or cleaned the path (and has let it pass for what it was then): these two make the target.
    ///
    /// # Errors
    /// What would be read as something else than it was: method, target or field that hold what separates them in a head; no
    /// method or no target; a body without a length. All other faults are left to the reader.
    pub fn head(&self) -> Result<Vec<u8>, ParseError> {
        let method = self.said("REQUEST_METHOD").ok_or(ParseError::VariableMissing)?;
        let target = self.target()?;
        if !is_visible(method) {
            return Err(ParseError::Method);
        }
        if !is_visible(&target) {
            return Err(ParseError::TargetByte);
        }
        let mut head = Vec::with_capacity(self.block.len() + 64);
        head.extend_from_slice(method);
        head.push(b' ');
        head.extend_from_slice(&target);
        head.extend_from_slice(if self.is_old()? { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        if let Some(host) = self.host() {
            put(&mut head, b"host", &host)?;
        }
        for (variable, field) in [("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")] {
            match self.said(variable) {
                Some(value) => put(&mut head, field.as_bytes(), value)?,
                None if variable == "CONTENT_LENGTH" && self.said("HTTP_TRANSFER_ENCODING").is_some() => {
                    return Err(ParseError::LengthMissing);
                }
                None => {}
            }
        }
        for (variable, value) in self.iter() {
            let Some(name) = variable.strip_prefix("HTTP_") else { continue };
            if matches!(name, "HOST" | "CONTENT_TYPE" | "CONTENT_LENGTH" | "TRANSFER_ENCODING") {
                continue;
            }
            let name: Vec<u8> = name.bytes().map(|b| if b == b'_' { b'-' } else { b }).collect();
            put(&mut head, &name.to_ascii_lowercase(), value)?;
        }
        head.extend_from_slice(b"\r\n");
        Ok(head)
    }

    /// Whether the client knows no more than HTTP/1.0.
    fn is_old(&self) -> Result<bool, ParseError> {
        match self.said("SERVER_PROTOCOL") {
            None => Ok(false),
            Some(b"HTTP/1.0" | b"HTTP/0.9") => Ok(true),
            Some([b'H', b'T', b'T', b'P', b'/', major]) if major.is_ascii_digit() => Ok(false),
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Ok(false)
            }
            Some(_) => Err(ParseError::Version),
        }
    }

    fn host(&self) -> Option<Cow<'_, [u8]>> {
        if let Some(host) = self.said("HTTP_HOST") {
            return Some(host.into());
        }
        let mut host = self.said("SERVER_NAME")?.to_vec();
        if let Some(port) = self.said("SERVER_PORT") {
            host.push(b':');
            host.extend_from_slice(port);
        }
        // A front server may call itself by a pattern; then there is no host.
        is_host(&host).then_some(host.into())
    }

    fn target(&self) -> Result<Cow<'_, [u8]>, ParseError> {
        let (path, query) = (self.said("PATH_INFO"), self.get("QUERY_STRING"));
        let script = self.get("SCRIPT_NAME").unwrap_or_default();
        let path = match (self.said("REQUEST_URI"), path) {
            (None, None) => return Err(ParseError::VariableMissing),
            (Some(uri), None) => return Ok(uri.into()),
            (Some(uri), Some(path)) if !uri.starts_with(b"/") || agree(uri, script, path, query) => {
                return Ok(uri.into());
            }
            (_, Some(path)) => path,
        };
        let behind = path.strip_prefix(script);
        let is_whole = behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(b"/"));
        let mut target = if is_whole { Vec::new() } else { encoded(script) };
        target.append(&mut encoded(path));
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        Ok(target.into())
    }
}

/// The names alone: values may be secrets.
impl fmt::Debug for Vars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// The name and the value that `bytes` begin with, and what is behind them.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = string(bytes)?;
    let (value, rest) = string(rest)?;
    Some((name, value, rest))
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// Adds a field line.
fn put(head: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), ParseError> {
    if name.is_empty() || !name.iter().all(|b| is_token_byte(*b)) {
        return Err(ParseError::FieldName);
    }
    if memchr::memchr2(b'\r', b'\n', value).is_some() {
        return Err(ParseError::FieldValue);
    }
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
    Ok(())
}

/// Whether nothing in it ends a part of the request line.
fn is_visible(part: &[u8]) -> bool {
    part.iter().all(|b| *b > b' ' && *b != 0x7f)
}

/// Whether the target as the client sent it is what the front server says of its path and query.
fn agree(uri: &[u8], script: &[u8], path: &[u8], query: Option<&[u8]>) -> bool {
    let (raw, behind) = match memchr::memchr(b'?', uri) {
        Some(mark) => (&uri[..mark], &uri[mark + 1..]),
        None => (uri, &b""[..]),
    };
    let raw: Cow<'_, [u8]> = percent_decode(raw).into();
    let same_path = &*raw == path || raw.strip_prefix(script).is_some_and(|rest| rest == path);
    same_path && query.is_none_or(|query| query == behind)
}

/// What a path may hold as it is (RFC 3986, 3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

fn encoded(path: &[u8]) -> Vec<u8> {
    percent_encode(path, PATH).collect::<String>().into_bytes()
}

#[cfg(test)]
pub(crate) mod tests;
