//! The client at the other end, while a request of it is worked on.

use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::Connection;

/// What counts as a client's leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaving {
    /// The connection was reset, or is in error: nobody can get the answer.
    Reset,
    /// As `Reset`, or the client has closed its sending half. Most clients that do so have closed the connection, but it is
    /// legal to send a request, close that half and wait for the answer (as `nc -N` does).
    Close,
}

/// The client of a request, made by [`Request::client`](super::Request::client): tells whether it is still there.
///
/// Nobody watches a client unless one of these is asked; normally a handler hears of its leaving when it reads or writes.
/// Input that nobody has read yet, a pipelined request for instance, is in nobody's way.
#[derive(Clone)]
pub struct Client(Option<(Rc<dyn Connection>, u64)>);

impl Client {
    pub(crate) fn new(connection: Option<(Rc<dyn Connection>, u64)>) -> Client {
        Client(connection)
    }

    /// Whether it has left. One system call, never waits. False for a request made by hand, and once the response is
    /// finished.
    pub fn has_left(&self, how: Leaving) -> bool {
        self.0.as_ref().is_some_and(|(connection, request)| connection.has_left(*request, how))
    }

    /// Runs `f`, and unwinds it where it waits if the client leaves before it is done: for a query or a download that nobody
    /// would be interested in any more. Destructors run, as at the end of a [`greenlet::timeout()`]. Code that does not
    /// wait is not interrupted. To be called by the green thread of the request itself; if that waits it takes a second one, which watches, and a
    /// descriptor.
    ///
    /// With `-k threads` `f` always runs to its end: an OS thread can't be unwound from outside.
    ///
    /// [`Server::cancel_on_disconnect`](crate::Server::cancel_on_disconnect) does this for whole requests.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenserve::{Leaving, Request};
    ///
    /// fn app(req: Request) -> std::io::Result<String> {
    ///     let rows = req.client().unless_it_leaves(Leaving::Close, || {
    ///         greenlet::sleep(Duration::from_millis(5)); // a long query
    ///         3
    ///     })?;
    ///     Ok(format!("{rows} rows\n"))
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ClientLeft`], which can be returned from the handler: there is nobody to see the answer.
    ///
    /// # Panics
    /// With `f`'s own panic.
    pub fn unless_it_leaves<R>(&self, how: Leaving, f: impl FnOnce() -> R) -> Result<R, ClientLeft> {
        let (mut f, mut result) = (Some(f), None);
        let mut run = || result = f.take().map(|f| f());
        match &self.0 {
            Some((connection, request)) => {
                connection.unless_left(*request, how, &mut run);
            }
            None => run(),
        }
        result.ok_or(ClientLeft(()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The client has left before the work for it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLeft(());

impl fmt::Display for ClientLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client has left before the work for it was done")
    }
}

impl Error for ClientLeft {}

impl From<ClientLeft> for io::Error {
    fn from(left: ClientLeft) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, left)
    }
}
