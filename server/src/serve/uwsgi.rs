//! Requests that a front server hands on by the uwsgi protocol: what is different from HTTP once a packet has become a head.
//!
//! Each connection carries one request. Its answer has no chunks, for front servers don't take them off: a body of unknown
//! length ends with the connection, as in HTTP/1.0.

use ::http::Version;

use super::conn::Conn;
use super::input::Input;
use super::transport::Transport;
use crate::app::Addr;
use crate::http::uwsgi::Vars;

/// What a server's connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    #[default]
    Http,
    /// The uwsgi protocol, by which a front server such as nginx (`uwsgi_pass`) hands on requests (`modifier1` 0 alone). Who may
    /// speak it is believed about who the client is: see [`Server::uwsgi_allow_ips`](super::Server::uwsgi_allow_ips).
    ///
    /// The handler gets what it would get over HTTP, with the names of fields in lower case, and the packet's variables by
    /// [`Request::vars`](crate::Request::vars); how the target is found is told at
    /// [`Vars::head`](crate::http::uwsgi::Vars::head). The version is 1.1 at most, whatever the client speaks to the front
    /// server. All limits apply; the header timeout is for the packet.
    ///
    /// A connection serves one request, and nobody is told to continue. A response of unknown length ends with the connection;
    /// if it breaks off the connection is reset, which tells the front server over TCP. A Unix socket knows no reset: state the
    /// length where that matters.
    Uwsgi,
}

impl Protocol {
    /// For which version of HTTP the answer to a request of this version is framed.
    #[inline]
    pub(super) fn framing(self, version: Version) -> Version {
        match self {
            Protocol::Http => version,
            Protocol::Uwsgi => Version::HTTP_10,
        }
    }
}

/// What a front server has said of a request.
pub(super) struct Front {
    pub(super) vars: Vars,
    /// Who has sent the request.
    pub(super) client: Option<Addr>,
}

impl<T: Transport> Conn<T> {
    /// Whether the one who has connected may speak for others.
    #[cold]
    pub(super) fn is_allowed(&self) -> bool {
        self.settings.uwsgi_allow_ips.contain(self.ends.peer())
    }

    /// Keeps what came with the head that was found or refused, if it came by uwsgi.
    #[cold]
    #[inline(never)]
    pub(super) fn take_front(&self, input: &mut Input) {
        if let Some(vars) = input.take_vars() {
            let client = vars.client().map(Addr::Inet);
            // There is one request on a connection.
            let _ = self.front.set(Box::new(Front { vars, client }));
        }
    }
}
