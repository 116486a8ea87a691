//! A look into a server that serves, from another thread: who is connected, and what the green threads do.

use std::fmt;
use std::time::Duration;

use greenlet::JoinError;
use greenlet::inspect::Info;
use serde::Serialize;

/// What can be seen of a server.
pub(crate) trait Insight: Send + Sync + 'static {
    /// Whether it can be looked into at all within this time: its thread has its turn.
    ///
    /// # Errors
    /// [`Blind`].
    fn answers(&self, patience: Duration) -> Result<(), Blind>;

    /// Its connections, in no order.
    ///
    /// # Errors
    /// [`Blind`].
    fn connections(&self, patience: Duration) -> Result<Vec<Seen>, Blind>;

    /// Its green threads.
    ///
    /// # Errors
    /// [`Blind`].
    fn greenlets(&self, patience: Duration) -> Result<Vec<Info>, Blind>;

    /// So many of its green threads with their stacks, as a text.
    ///
    /// # Errors
    /// [`Blind`].
    fn stacks(&self, most: usize, patience: Duration) -> Result<String, Blind>;
}

/// One connection, at the moment at which it was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// The other end of the socket: a proxy, if there is one.
    pub(crate) peer: Option<String>,
    pub(crate) state: State,
    /// For how many seconds whoever serves it has been waiting for the same thing.
    pub(crate) since: Option<f64>,
    /// What that is.
    pub(crate) waits: Option<String>,
    /// How many requests were answered.
    pub(crate) requests: Option<u64>,
    /// The line of the request under way, with what is not printable escaped.
    pub(crate) request: Option<String>,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nothing was read of it as HTTP: it is new, or TLS or a PROXY header come first.
    Opening,
    /// It waits for a request of which nothing has come.
    Idle,
    /// A request's head is being read.
    Reading,
    /// A handler has the request.
    Handler,
    /// The response has begun.
    Writing,
    /// It speaks another protocol by now.
    Upgraded,
    /// It has begun with something, and there is no telling with what.
    Busy,
}

/// Why nothing can be seen.
#[derive(Debug)]
pub(crate) enum Blind {
    /// The thread did not have its turn in time.
    Stuck(Duration),
    /// It serves no more.
    Gone,
    /// There are no green threads.
    NotGreen,
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blind::Stuck(patience) => write!(
                f,
                "its hub has not turned for {:.1} s: a handler computes, or blocks its thread",
                patience.as_secs_f32()
            ),
            Blind::Gone => f.write_str("it does not serve any more"),
            Blind::NotGreen => f.write_str("it has no green threads: it serves with -k threads"),
        }
    }
}

impl Blind {
    pub(super) fn of(error: JoinError, patience: Duration) -> Blind {
        match error {
            JoinError::Wait(_) => Blind::Stuck(patience),
            _ => Blind::Gone,
        }
    }
}
