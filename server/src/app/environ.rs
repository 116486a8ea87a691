//! A request as CGI (RFC 3875) and WSGI (PEP 3333) have it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ::http::Version;

use super::forwarded::{ForwardedError, HeaderMapping, Origin};
use super::{Addr, Request};
use crate::http::uwsgi::Vars;

/// The variables of one request: names, and values as bytes. Made by [`Request::environ`].
///
/// A value is what came, so bytes and not text; a WSGI server for Python makes its `str` by Latin-1 of them (PEP 3333, "A
/// Note on String Types"). What is no text has a place of its own: [`Environ::flags`]. `wsgi.version` is `(1, 0)`;
/// `wsgi.input`, `wsgi.errors` and `wsgi.file_wrapper` are objects of whoever has Python.
///
/// By the uwsgi protocol the front server's own variables ([`Request::vars`]) are there as well, `REMOTE_USER` and `DOCUMENT_ROOT`
/// say, and where both know one, such as `SERVER_NAME` or `REMOTE_ADDR`, its word counts unless it is empty. What remains the
/// server's: the request line, `CONTENT_TYPE` and `CONTENT_LENGTH`, `HTTP_…`, `wsgi.…`, and where `PATH_INFO` begins.
///
/// ```
/// use greenserve::{Body, Request};
///
/// let req = Request::from(http::Request::get("/caf%C3%A9?a=1").header("x-a", "b").body(Body::empty())?);
/// let environ = req.environ()?;
/// assert_eq!(environ.get("PATH_INFO").as_deref(), Some("/café".as_bytes()));
/// assert_eq!(environ.get("HTTP_X_A").as_deref(), Some(&b"b"[..]));
/// assert!(environ.iter().any(|(name, value)| name == "QUERY_STRING" && *value == *b"a=1"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// | Variable | Here | gunicorn | gevent.pywsgi |
/// |---|---|---|---|
/// | `SCRIPT_NAME` | what the uwsgi variable or the header of a trusted peer says, decoded and without a `/` at its end, or what the nests of [`Router`](crate::Router)s stand for, whichever is longer; and [`Environ::mounted_at`] | the header, or the process's variable, as it is | empty |
/// | `PATH_INFO` | the path behind it, decoded; it begins with `/` or is empty; a target `http://host/path` has the path `/path` | the same, but `/apple` is below `/app` | the target with the host |
/// | `PATH_INFO` as a header | only `HTTP_PATH_INFO` | the same | dropped |
/// | `CONTENT_TYPE`, `CONTENT_LENGTH` | absent if they did not come; never as `HTTP_…` | with underscores they may be `HTTP_…` | absent |
/// | `SERVER_NAME`, `SERVER_PORT` | where the client reached the server, IPv6 in brackets (RFC 3875, 4.1.14); by a Unix socket what [`Request::host`] says, or `localhost` | the listener's, which may be 0.0.0.0; by a Unix socket `Host` | the listener's name in the DNS; empty for a Unix socket |
/// | `SERVER_PROTOCOL` | `HTTP/1.1` for all 1.x but 1.0 | as it came | as it came |
/// | `GATEWAY_INTERFACE` | `CGI/1.1` | absent | `CGI/1.1` |
/// | `REMOTE_ADDR` | the peer's, and empty for a Unix socket, or if a uwsgi front server names none; see [`Request::client_addr`] | the same | absent for a Unix socket |
/// | `RAW_URI`, `REQUEST_URI` | the target as it came | `RAW_URI` only | absent |
/// | `PROXY_PROTOCOL`, `PROXY_ADDR`, `PROXY_PORT` | after a PROXY header with addresses: `TCP4` or `TCP6`, and where the client reached the proxy | the same | absent |
/// | `HTTP_PROXY` | never, since programs take it for a setting of theirs (httpoxy) | the header | the header |
/// | `HTTP_COOKIE` | several joined with `; ` | with `,` | with `; ` |
/// | other repeated headers | joined with `,` | the same | the same |
/// | names with underscores | see [`HeaderMapping`] and `forwarder_headers`; never are two headers joined by that | may be joined | dropped |
/// | `wsgi.url_scheme` | [`Request::scheme`] | the same without `Forwarded` | whether it speaks TLS |
/// | `wsgi.multithread` | whether OS threads serve | the same | false |
/// | `wsgi.multiprocess` | whether a master has more than one worker | the same | false |
pub struct Environ<'r> {
    req: &'r Request,
    /// What a front server has said by the uwsgi protocol.
    vars: Option<&'r Vars>,
    origin: Origin<'r>,
    /// What a trusted peer may send with underscores in its name is let through.
    trusted: bool,
    scheme: &'static str,
    peer: Option<Addr>,
    local: Option<Addr>,
    /// Decoded.
    script_name: Vec<u8>,
    /// Still encoded.
    path: &'r str,
}

/// Which header gives a variable, if several could: the greatest, and never two kinds of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its name has underscores, and the setting lets that pass.
    Dangerous,
    Plain,
    /// Its name is one of `forwarder_headers`, and a trusted peer has sent it: what the client wrote with hyphens is not it.
    Forwarder,
}

/// The value of a variable, as far as it was found.
type Found<'a> = (Rank, Cow<'a, [u8]>);

/// All that is no header, in the order of iteration.
const VARIABLES: [&str; 19] = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REQUEST_URI",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "GATEWAY_INTERFACE",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "PROXY_PROTOCOL",
    "PROXY_ADDR",
    "PROXY_PORT",
    "wsgi.url_scheme",
];

/// Those of them that no front server may set, since its request has become one of HTTP.
const OURS: [&str; 8] = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "wsgi.url_scheme",
];

/// Whether a front server alone can say what that variable is.
fn is_front_servers(name: &str) -> bool {
    !VARIABLES.contains(&name) && !name.starts_with("HTTP_") && !name.starts_with("wsgi.")
}

impl Request {
    /// The CGI and WSGI view of this request. Nearly all of it is made when it is asked for.
    ///
    /// # Errors
    /// What trusted proxies say is contradictory ([`Request::scheme`]), or `SCRIPT_NAME`, as a header of theirs or a uwsgi variable,
    /// is not where the path begins.
    pub fn environ(&self) -> Result<Environ<'_>, ForwardedError> {
        let environ = Environ {
            req: self,
            vars: self.vars(),
            origin: self.connection().map(|connection| connection.origin()).unwrap_or_default(),
            trusted: self.trusting().is_some(),
            scheme: self.scheme()?,
            peer: self.peer_addr(),
            local: self.local_addr(),
            script_name: Vec::new(),
            path: self.path(),
        };
        let is_script_name = |name: &str| name.eq_ignore_ascii_case("SCRIPT_NAME");
        let found = self.fields().find(|(name, _)| is_script_name(name));
        let environ = match found.filter(|(name, _)| environ.rank(name) == Some(Rank::Forwarder)) {
            Some((_, prefix)) => {
                environ.mounted_at(std::str::from_utf8(prefix).map_err(|_| ForwardedError::ScriptName)?)
            }
            None => environ.below_decoded(self.vars().and_then(|vars| vars.said("SCRIPT_NAME"))),
        }?;
        // Routers are asked for the whole path, so both count from its beginning.
        let nests = self.script_name().get(self.path().len() - environ.path.len()..).unwrap_or_default();
        environ.mounted_at(nests)
    }
}

impl<'r> Environ<'r> {
    /// Moves `prefix`, percent-encoded as in the target, from the beginning of `PATH_INFO` to the end of `SCRIPT_NAME`, as
    /// for an application that is mounted there. A `/` at its end does not count.
    ///
    /// # Errors
    /// [`ForwardedError::ScriptName`]: the path is not that or below it.
    pub fn mounted_at(mut self, prefix: &str) -> Result<Environ<'r>, ForwardedError> {
        let prefix = prefix.trim_end_matches('/');
        let rest = self.path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        // `*` of OPTIONS, and nothing of CONNECT, are below nothing.
        let rest = rest.or(prefix.is_empty().then_some(self.path));
        self.path = rest.ok_or(ForwardedError::ScriptName)?;
        self.script_name.extend(percent_encoding::percent_decode_str(prefix));
        Ok(self)
    }

    /// As [`Environ::mounted_at`], for a prefix without percent-encoding.
    fn below_decoded(self, prefix: Option<&[u8]>) -> Result<Environ<'r>, ForwardedError> {
        let mut rest = self.path.as_bytes();
        let mut prefix = prefix.unwrap_or_default();
        while let Some(shorter) = prefix.strip_suffix(b"/") {
            prefix = shorter;
        }
        for expected in prefix {
            if percent_encoding::percent_decode(rest).next() != Some(*expected) {
                return Err(ForwardedError::ScriptName);
            }
            rest = &rest[if is_encoded(rest) { 3 } else { 1 }..];
        }
        let prefix = self.path.get(..self.path.len() - rest.len()).ok_or(ForwardedError::ScriptName)?;
        self.mounted_at(prefix)
    }

    /// The value of one variable, without going through all of them.
    pub fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let Some(key) = name.strip_prefix("HTTP_") else { return self.variable(name) };
        let mut found: Option<Found<'_>> = None;
        for (name, value) in self.req.fields() {
            if gives(name, key)
                && let Some(rank) = self.rank(name)
            {
                match &mut found {
                    Some(found) => join(found, rank, value, key),
                    None => found = Some((rank, Cow::Borrowed(value))),
                }
            }
        }
        found.map(|(_, value)| value)
    }

    /// All variables, each once: first those that are no headers, then what else a uwsgi front server says, then `HTTP_…` in the
    /// order in which the headers came.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, [u8]>)> {
        let own = VARIABLES.iter().filter_map(|name| Some((Cow::Borrowed(*name), self.variable(name)?)));
        let more = self.vars.iter().flat_map(|vars| vars.iter()).filter(|(name, _)| is_front_servers(name));
        // The last one of a name counts.
        let more: BTreeMap<&str, &[u8]> = more.collect();
        let own = own
            .chain(more.into_iter().map(|(name, value)| (Cow::Owned(name.to_owned()), Cow::Borrowed(value))));
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut headers: Vec<(String, Found<'_>)> = Vec::new();
        for (name, value) in self.req.fields() {
            let Some(rank) = self.rank(name) else { continue };
            let name = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
            match places.get(&name) {
                Some(place) => join(&mut headers[*place].1, rank, value, &name["HTTP_".len()..]),
                None => {
                    places.insert(name.clone(), headers.len());
                    headers.push((name, (rank, Cow::Borrowed(value))));
                }
            }
        }
        own.chain(headers.into_iter().map(|(name, (_, value))| (Cow::Owned(name), value)))
    }

    /// What WSGI wants to know that is yes or no: `wsgi.multithread` (handlers run in several OS threads; green threads are
    /// none, as for gevent), `wsgi.multiprocess`, `wsgi.run_once`, and `wsgi.input_terminated`: reading a body to its end is
    /// safe, whether or not there is a `CONTENT_LENGTH`.
    pub fn flags(&self) -> [(&'static str, bool); 4] {
        [
            ("wsgi.multithread", self.origin.multithread),
            ("wsgi.multiprocess", self.origin.multiprocess),
            ("wsgi.run_once", false),
            ("wsgi.input_terminated", true),
        ]
    }

    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        if let Some(vars) = self.vars {
            if is_front_servers(name) {
                return vars.get(name).map(Cow::Borrowed);
            }
            if !OURS.contains(&name)
                && let Some(said) = vars.said(name)
            {
                return Some(Cow::Borrowed(said));
            }
        }
        let text = |text: &'static str| Some(Cow::Borrowed(text.as_bytes()));
        let header = |wanted: &str| {
            let found = self.req.fields().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| Cow::Borrowed(value))
        };
        match name {
            "REQUEST_METHOD" => Some(Cow::Borrowed(self.req.method().as_str().as_bytes())),
            "SCRIPT_NAME" => Some(Cow::Borrowed(&self.script_name)),
            "PATH_INFO" => Some(percent_encoding::percent_decode_str(self.path).into()),
            "QUERY_STRING" => Some(Cow::Borrowed(self.req.query().unwrap_or_default().as_bytes())),
            "RAW_URI" | "REQUEST_URI" => Some(match self.req.raw_target() {
                Cow::Borrowed(target) => Cow::Borrowed(target.as_bytes()),
                Cow::Owned(target) => Cow::Owned(target.into_bytes()),
            }),
            "CONTENT_TYPE" => header("content-type"),
            "CONTENT_LENGTH" => header("content-length"),
            "SERVER_NAME" => Some(self.server().0.into_bytes().into()),
            "SERVER_PORT" => Some(self.server().1.into_bytes().into()),
            "SERVER_PROTOCOL" if self.req.version() == Version::HTTP_10 => text("HTTP/1.0"),
            "SERVER_PROTOCOL" => text("HTTP/1.1"),
            "SERVER_SOFTWARE" => text(concat!("greenserve/", env!("CARGO_PKG_VERSION"))),
            "GATEWAY_INTERFACE" => text("CGI/1.1"),
            "REMOTE_ADDR" => Some(match self.peer.as_ref().and_then(Addr::as_inet) {
                Some(peer) => peer.ip().to_string().into_bytes().into(),
                None => Cow::Borrowed(b""),
            }),
            "REMOTE_PORT" => Some(self.peer.as_ref()?.as_inet()?.port().to_string().into_bytes().into()),
            "PROXY_PROTOCOL" => text(if self.proxied()?.1.is_ipv4() { "TCP4" } else { "TCP6" }),
            "PROXY_ADDR" => Some(self.proxied()?.1.ip().to_string().into_bytes().into()),
            "PROXY_PORT" => Some(self.proxied()?.1.port().to_string().into_bytes().into()),
            "wsgi.url_scheme" => text(self.scheme),
            _ => None,
        }
    }

    /// The addresses of a PROXY header.
    fn proxied(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        let ends = self.peer.as_ref()?.as_inet().zip(self.local.as_ref()?.as_inet());
        ends.filter(|_| self.origin.proxied)
    }

    /// Name and port, neither of them empty.
    fn server(&self) -> (String, String) {
        if let Some(local) = self.local.as_ref().and_then(Addr::as_inet) {
            let name = if local.is_ipv6() { format!("[{}]", local.ip()) } else { local.ip().to_string() };
            return (name, local.port().to_string());
        }
        let default = if self.scheme == "https" { "443" } else { "80" };
        // One that is refused elsewhere is none here.
        let host = self.req.host().ok().flatten().unwrap_or_default();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (&*host, ""),
        };
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        (or(name, "localhost"), or(port, default))
    }

    /// Whether, and with which precedence, a header becomes a variable.
    fn rank(&self, name: &str) -> Option<Rank> {
        if ["CONTENT_TYPE", "CONTENT_LENGTH", "PROXY"].into_iter().any(|key| gives(name, key)) {
            return None;
        }
        if !name.contains('_') {
            return Some(Rank::Plain);
        }
        let trust = self.origin.trust?;
        if self.trusted && trust.lets_through(name) {
            return Some(Rank::Forwarder);
        }
        (trust.header_map == HeaderMapping::Dangerous).then_some(Rank::Dangerous)
    }
}

/// Whether it begins with a percent-encoded byte.
fn is_encoded(path: &[u8]) -> bool {
    matches!(path, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Whether a header of that name gives the variable `HTTP_` and `key`.
fn gives(name: &str, key: &str) -> bool {
    let as_variable = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    name.len() == key.len() && name.bytes().map(as_variable).eq(key.bytes())
}

/// Adds one more header of the same variable.
fn join<'a>(found: &mut Found<'a>, rank: Rank, value: &'a [u8], key: &str) {
    match rank.cmp(&found.0) {
        Ordering::Less => {}
        Ordering::Greater => *found = (rank, Cow::Borrowed(value)),
        Ordering::Equal => {
            let all = found.1.to_mut();
            all.extend_from_slice(if key == "COOKIE" { b"; " } else { b"," });
            all.extend_from_slice(value);
        }
    }
}

/// The values of `HTTP_AUTHORIZATION`, `HTTP_PROXY_AUTHORIZATION` and `HTTP_COOKIE` are not shown.
impl fmt::Debug for Environ<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| match &*name {
            "HTTP_AUTHORIZATION" | "HTTP_PROXY_AUTHORIZATION" | "HTTP_COOKIE" => (name, "Sensitive".into()),
            _ => (name, String::from_utf8_lossy(&value).into_owned()),
        });
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests;
