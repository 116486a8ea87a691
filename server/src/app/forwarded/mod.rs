//! Where a request came from, when there are proxies before the server: who is trusted to say so ([`Trust`], [`Networks`]),
//! and what [`Request`] makes of what they say. How `Forwarded` is written lives in `element`; nothing in here is computed
//! before an application asks.

mod element;
mod networks;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;

use ::http::{StatusCode, uri::Scheme};

pub use networks::Networks;

use self::element::{Element, address, elements};
use super::{Addr, Connection, IntoResponse, Request, Response};
use crate::http::{Lines, is_host, list};

/// What becomes of a header whose name holds an underscore, since the CGI variable of `X_Real` would be that of `X-Real`
/// (gunicorn's `header_map`). It is about [`Environ`](super::Environ) only: by its own name a header is always found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeaderMapping {
    /// It is left out.
    #[default]
    Drop,
    /// The whole request is answered with 400.
    Refuse,
    /// It becomes a variable, unless another header's name gives that variable without an underscore: gunicorn joins the
    /// values of both then, here that of the underscore is left out.
    Dangerous,
}

/// Who is trusted to tell where a request came from, and by which headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) peers: Networks,
    /// Names, and the values by which they say that the client speaks TLS.
    pub(crate) scheme_headers: Vec<(String, String)>,
    /// Names with underscores that are let through, or `*`.
    pub(crate) forwarder_headers: Vec<String>,
    pub(crate) header_map: HeaderMapping,
}

impl Default for Trust {
    fn default() -> Trust {
        let scheme_headers =
            [("X-FORWARDED-PROTOCOL", "ssl"), ("X-FORWARDED-PROTO", "https"), ("X-FORWARDED-SSL", "on")];
        Trust {
            peers: Networks::loopback(),
            scheme_headers: scheme_headers.map(|(name, value)| (name.into(), value.into())).into(),
            forwarder_headers: vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
            header_map: HeaderMapping::default(),
        }
    }
}

impl Trust {
    /// Whether a peer's word counts. Unix sockets have owners and modes, so who can connect does, as in gunicorn.
    pub(crate) fn covers(&self, peer: &Addr) -> bool {
        self.peers.contain(peer)
    }

    /// Whether a trusted peer may send a header of this name although it holds an underscore.
    pub(super) fn lets_through(&self, name: &str) -> bool {
        self.forwarder_headers.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(name))
    }

    /// Whether a request must be refused for a header's name.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuses(&self, peer: &Addr, head: &[u8]) -> bool {
        let trusted = self.covers(peer);
        Lines::new(head).any(|(name, _)| name.contains('_') && !(trusted && self.lets_through(name)))
    }
}

/// What a connection knows of where its requests come from, besides its addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin<'c> {
    /// Without it nobody is trusted.
    pub(crate) trust: Option<&'c Trust>,
    /// The client speaks TLS: with the server, or with a proxy that said so before the first request.
    pub(crate) secure: bool,
    /// The addresses are those that a PROXY header gave.
    pub(crate) proxied: bool,
    /// Handlers of other connections run at the same time, in other OS threads.
    pub(crate) multithread: bool,
    /// They run in other processes, too.
    pub(crate) multiprocess: bool,
}

/// What trusted proxies say can't be true, or can't be read.
///
/// Who returns it from a handler, also inside of an [`io::Error`], answers with its [`status`](ForwardedError::status).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedError {
    /// Some of `secure_scheme_headers` and of `Forwarded`'s `proto` say https, some don't: 400, as in gunicorn.
    Scheme,
    /// `X-Forwarded-For` and `Forwarded` name different clients: 400. One of them was sent by the client.
    Client,
    /// `X-Forwarded-Host` and `Forwarded` name different hosts, or what is no host: 400.
    Host,
    /// `Forwarded` breaks its grammar (RFC 7239, 4): 400. Nothing in it can be told apart then.
    Malformed,
    /// The path is not below `SCRIPT_NAME`: 500, as in gunicorn. The proxy is set up wrongly.
    ScriptName,
}

impl ForwardedError {
    /// The status that tells the client of it.
    pub fn status(self) -> StatusCode {
        match self {
            ForwardedError::ScriptName => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The `ForwardedError` inside an error, if it is one.
    pub fn of(error: &io::Error) -> Option<ForwardedError> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for ForwardedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForwardedError::Scheme => "contradictory scheme headers",
            ForwardedError::Client => "X-Forwarded-For and Forwarded name different clients",
            ForwardedError::Host => "the forwarded host is no host, or there are different ones",
            ForwardedError::Malformed => "malformed Forwarded header",
            ForwardedError::ScriptName => "the path is not below SCRIPT_NAME: see how the proxy sets it",
        })
    }
}

impl Error for ForwardedError {}

impl From<ForwardedError> for io::Error {
    fn from(error: ForwardedError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl IntoResponse for ForwardedError {
    fn into_response(self) -> Response {
        io::Error::from(self).into_response()
    }
}

/// # Behind a proxy
///
/// These look through proxies that are trusted (`forwarded_allow_ips`: the loopback addresses if nothing was set, and all that
/// connect to a Unix socket). Of anybody else neither header counts. The peer is who [`Request::peer_addr`] names: with the
/// PROXY protocol the client of the proxy, who may send what he likes, and not the proxy as in gunicorn. So it is by the uwsgi
/// protocol, for the front server passes on what its clients send: the peer is its client, and if it doesn't name one
/// (`REMOTE_ADDR`) these headers are believed of nobody. Like that method they know nothing for a request made by hand, or one
/// whose body was replaced.
impl Request {
    /// `https` or `http`, by which the client speaks to the server, or to the first proxy.
    ///
    /// It is what the connection knows (by the uwsgi protocol what the front server says by `HTTPS` or `REQUEST_SCHEME`),
    /// unless a trusted peer says otherwise: by gunicorn's `secure_scheme_headers`, where
    /// exactly the value that is set for a name means https and any other http, or by `proto` in `Forwarded`
    /// (RFC 7239, 5.4). For a request made by hand the scheme of its `Uri`, or `http`.
    ///
    /// ```
    /// # use greenserve::{Request, Response, IntoResponse, ForwardedError};
    /// fn app(req: Request) -> Result<&'static str, ForwardedError> {
    ///     Ok(if req.scheme()? == "https" { "private" } else { "for everyone to read" })
    /// }
    /// # assert_eq!(app(http::Request::get("https://a/").body(greenserve::Body::empty()).unwrap().into()), Ok("private"));
    /// ```
    ///
    /// # Errors
    /// [`ForwardedError::Scheme`] and [`ForwardedError::Malformed`].
    pub fn scheme(&self) -> Result<&'static str, ForwardedError> {
        let mut secure = match self.connection() {
            Some(connection) => connection.origin().secure,
            None => self.uri().scheme() == Some(&Scheme::HTTPS),
        };
        if let Some(trust) = self.trusting() {
            let mut said = None;
            let mut say = |secure: bool| match said.replace(secure) {
                Some(other) if other != secure => Err(ForwardedError::Scheme),
                _ => Ok(()),
            };
            for (name, value) in self.fields() {
                let known = trust.scheme_headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                known.map_or(Ok(()), |(_, expected)| say(value == expected.as_bytes()))?;
            }
            if let Some(proto) = self.element(trust)?.and_then(|element| element.proto) {
                say(proto.eq_ignore_ascii_case(b"https"))?;
            }
            secure = said.unwrap_or(secure);
        }
        Ok(if secure { "https" } else { "http" })
    }

    /// The host that the client asked, with its port if it named one: from a trusted peer `host` in `Forwarded`
    /// (RFC 7239, 5.3) or the last value of `X-Forwarded-Host`, else that of an absolute target, else `Host`.
    ///
    /// It is a well-formed host, but that it is one of yours nobody has checked.
    ///
    /// # Errors
    /// [`ForwardedError::Host`] and [`ForwardedError::Malformed`].
    pub fn host(&self) -> Result<Option<Cow<'_, str>>, ForwardedError> {
        if let Some(trust) = self.trusting() {
            let listed = self.values("x-forwarded-host");
            let mut listed = from_the_right(&listed).map(Cow::Borrowed);
            let forwarded = self.element(trust)?.and_then(|element| element.host);
            match (listed.next(), forwarded) {
                (None, None) => {}
                (Some(host), Some(other)) if !host.eq_ignore_ascii_case(&other) => {
                    return Err(ForwardedError::Host);
                }
                (Some(host), _) | (None, Some(host)) => return checked_host(host).map(Some),
            }
        }
        if !self.raw_target().starts_with('/')
            && let Some(authority) = self.uri().authority()
        {
            return Ok(Some(authority.as_str().into()));
        }
        let host = self.fields().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        Ok(host.and_then(|(_, host)| std::str::from_utf8(host).ok()).map(Cow::Borrowed))
    }

    /// The client's address: the peer's, or what a trusted peer says in `X-Forwarded-For` or `Forwarded` (RFC 7239, 5.2).
    ///
    /// Each proxy adds at the right whom it got the request from. So the list is read from there, past all that are trusted,
    /// to the first that is not; if all are it is the leftmost (with `*` always, which is right only if the first proxy
    /// throws away what the client has sent). `None` if that is not an address: `unknown`, an obfuscated name, something
    /// malformed, a Unix socket. What stands further left is the client's to invent and never looked at.
    ///
    /// If both headers are there they must name the same client. A proxy that writes one of them should remove the other:
    /// where it only passes that on, and writes none of its own, the client's word counts.
    ///
    /// IPv4 addresses in IPv6's form are given as IPv4. The access log shows the peer.
    ///
    /// # Errors
    /// [`ForwardedError::Client`] and [`ForwardedError::Malformed`].
    pub fn client_addr(&self) -> Result<Option<IpAddr>, ForwardedError> {
        let Some(peer) = self.peer_addr() else { return Ok(None) };
        if let Some(trust) = self.trusting() {
            let listed = self.values("x-forwarded-for");
            let listed = trust.peers.first_beyond(from_the_right(&listed).map(address));
            let forwarded = self.element(trust)?.map(|element| element.client);
            match (listed, forwarded) {
                (None, None) => {}
                (Some(client), Some(other)) if client != other => return Err(ForwardedError::Client),
                (Some(client), _) | (None, Some(client)) => return Ok(client),
            }
        }
        Ok(peer.as_inet().map(|peer| peer.ip().to_canonical()))
    }

    pub(super) fn connection(&self) -> Option<&dyn Connection> {
        self.body().as_incoming().map(|incoming| &*incoming.connection)
    }

    /// By whom the peer is trusted, if it is.
    pub(super) fn trusting(&self) -> Option<&Trust> {
        let peer = self.peer_addr()?;
        self.connection()?.origin().trust.filter(|trust| trust.covers(&peer))
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value).collect()
    }

    /// The element of `Forwarded` that was added by the trusted proxy farthest from here.
    fn element(&self, trust: &Trust) -> Result<Option<Element<'_>>, ForwardedError> {
        let mut found = Vec::new();
        for line in self.values("forwarded") {
            elements(line, &mut found).ok_or(ForwardedError::Malformed)?;
        }
        // The first one that does not name a trusted proxy was added by one who knows nothing of those before it.
        let further = |element: &Element<'_>| element.client.is_some_and(|ip| trust.peers.contain_ip(ip));
        let at = found.iter().rposition(|element| !further(element)).unwrap_or(0);
        Ok((!found.is_empty()).then(|| found.swap_remove(at)))
    }
}

/// The elements of a list that may be spread over lines, the last one first; empty ones are skipped (RFC 9110, 5.6.1).
fn from_the_right<'a>(lines: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    lines.iter().rev().flat_map(|line| list(line).rev())
}

fn checked_host(host: Cow<'_, [u8]>) -> Result<Cow<'_, str>, ForwardedError> {
    if !is_host(&host) {
        return Err(ForwardedError::Host);
    }
    match host {
        Cow::Borrowed(host) => std::str::from_utf8(host).map(Cow::Borrowed).ok(),
        Cow::Owned(host) => String::from_utf8(host).map(Cow::Owned).ok(),
    }
    .ok_or(ForwardedError::Host)
}

#[cfg(test)]
pub(super) mod tests;
