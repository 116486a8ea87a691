//! From a request to a WebSocket.

use std::borrow::Borrow;
use std::io;
use std::time::Duration;

use ::http::{HeaderValue, header};

use super::handshake::{self, Origins};
use super::{WebSocket, close};
use crate::{IntoResponse, Request, Response};

/// Accepts a WebSocket with the settings that [`Acceptor::new`] has; see [`Acceptor::accept`].
pub fn accept(
    req: impl Borrow<Request>,
    run: impl FnOnce(&mut WebSocket) -> io::Result<()> + 'static,
) -> Response {
    Acceptor::new().accept(req, run)
}

/// How WebSockets are accepted.
///
/// ```
/// use greenserve::websocket::{Acceptor, Message};
/// use greenserve::{Request, Response};
///
/// fn app(req: Request) -> Response {
///     Acceptor::new().max_message_size(4096).protocols(["count.v1"]).accept(req, |ws| {
///         while let Some(message) = ws.recv()? {
///             ws.send(message.as_bytes().len().to_string())?;
///         }
///         Ok(())
///     })
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Acceptor {
    pub(super) largest: usize,
    pub(super) queue: usize,
    pub(super) keep_alive: Option<Duration>,
    origins: Origins,
    protocols: Vec<String>,
}

impl Default for Acceptor {
    fn default() -> Acceptor {
        Acceptor::new()
    }
}

impl Acceptor {
    /// The defaults: messages of up to 1 MiB, a queue of 1 MiB, pings after 30 seconds of silence, pages of the same origin,
    /// no subprotocol.
    pub fn new() -> Acceptor {
        Acceptor {
            largest: 1 << 20,
            queue: 1 << 20,
            keep_alive: Some(Duration::from_secs(30)),
            origins: Origins::Same,
            protocols: Vec::new(),
        }
    }

    /// The largest message that is taken, in bytes, in one frame or many (1 MiB). A larger one closes the WebSocket with
    /// [1009](close::TOO_BIG). So much memory a client can take.
    pub fn max_message_size(mut self, bytes: usize) -> Acceptor {
        self.largest = bytes;
        self
    }

    /// When a client that reads slowly has so many bytes before it (1 MiB), [`Sender`](super::Sender)s wait or fail. The last
    /// message that is taken may go beyond it.
    pub fn queue(mut self, bytes: usize) -> Acceptor {
        self.queue = bytes.max(1);
        self
    }

    /// After so much silence the client is pinged, and after as much again the connection is given up (30 s). `None`: never.
    pub fn keep_alive(mut self, silence: impl Into<Option<Duration>>) -> Acceptor {
        self.keep_alive = silence.into().filter(|silence| !silence.is_zero());
        self
    }

    /// Pages of these origins (`https://www.example.org`) may connect as well as those of the same host.
    pub fn origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Acceptor {
        self.origins = Origins::Also(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Pages of any origin may connect. Right only where no cookie, no client's address and no place in a network means
    /// anything; see the [module's page](super).
    pub fn any_origin(mut self) -> Acceptor {
        self.origins = Origins::Any;
        self
    }

    /// The subprotocols that are spoken (RFC 6455, 1.9), the best one first. The first that the client has offered is chosen; if
    /// it has offered none of them there is none, and it may leave.
    pub fn protocols<S: Into<String>>(mut self, protocols: impl IntoIterator<Item = S>) -> Acceptor {
        self.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Answers a request for a WebSocket: `run` has it then, as [`Response::upgrade`] describes. When it returns the
    /// WebSocket is closed, with [1000](close::NORMAL) or, after an error, [1011](close::ERROR); an error other than one
    /// of the connection is logged.
    ///
    /// A request that is none for a WebSocket gets 426, one whose handshake is wrong 400 or 405, and a page of another origin 403.
    pub fn accept(
        self,
        req: impl Borrow<Request>,
        run: impl FnOnce(&mut WebSocket) -> io::Result<()> + 'static,
    ) -> Response {
        let accepted = match handshake::check(req.borrow(), &self.origins, &self.protocols) {
            Ok(accepted) => accepted,
            Err(refusal) => return *refusal,
        };
        let mut fields = vec![(header::SEC_WEBSOCKET_ACCEPT, accepted.key)];
        fields.extend(accepted.protocol.clone().map(|name| (header::SEC_WEBSOCKET_PROTOCOL, name)));
        let mut response = Response::upgrade("websocket", move |io| {
            let mut ws = WebSocket::new(io, &self, accepted.protocol);
            let result = run(&mut ws);
            match &result {
                Ok(()) => ws.close(close::NORMAL, ""),
                Err(error) if ws.is_open() => {
                    log::error!("{}: the handler of a WebSocket failed: {error}", ws.peer_addr());
                    ws.close(close::ERROR, "");
                }
                Err(_) => {}
            }
            result
        });
        for (name, value) in fields {
            match HeaderValue::try_from(value) {
                Ok(value) => drop(response.headers_mut().insert(name, value)),
                Err(error) => return io::Error::other(error).into_response(),
            }
        }
        response
    }
}
