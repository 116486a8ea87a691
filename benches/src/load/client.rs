//! One client connection: requests out, responses in, each checked.

use std::fmt;
use std::io::{self, Read, Write};

use super::response::{Malformed, ReadError, Responses, Summary};

/// Why a request failed. Each counts by itself in the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Failure {
    /// The connection could not be made.
    Connect(io::ErrorKind),
    /// The request could not be sent.
    Send(io::ErrorKind),
    /// Reading the response failed.
    Receive(io::ErrorKind),
    /// No answer within the client's timeout.
    TimedOut,
    /// The connection ended before the first byte of the response.
    ClosedBefore,
    /// The connection ended within the response.
    ClosedWithin,
    /// The response breaks the rules of HTTP.
    Malformed(Malformed),
    /// Another status than expected.
    Status(u16),
    /// A body of another length than expected, in bytes.
    Length(u64),
    /// The request was due within the measured time, but no connection was free to send it (open loop).
    NeverSent,
    /// The request was under way during the whole measured time, the answer came only afterwards.
    Starved,
    /// The client was still waiting when the run was over for good.
    Unfinished,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(kind) => write!(f, "connect: {kind}"),
            Failure::Send(kind) => write!(f, "send: {kind}"),
            Failure::Receive(kind) => write!(f, "receive: {kind}"),
            Failure::TimedOut => f.write_str("timed out"),
            Failure::ClosedBefore => f.write_str("closed before the response"),
            Failure::ClosedWithin => f.write_str("closed within the response"),
            Failure::Malformed(what) => write!(f, "{what}"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Length(length) => write!(f, "body of {length} bytes"),
            Failure::NeverSent => f.write_str("never sent"),
            Failure::Starved => f.write_str("no answer in all the measured time"),
            Failure::Unfinished => f.write_str("unfinished at the end"),
        }
    }
}

/// What a good response looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The status code.
    pub status: u16,
    /// Length of the body in bytes, where it is known beforehand.
    pub length: Option<u64>,
}

impl Expect {
    /// Says what is wrong with the response, if anything.
    pub fn check(self, summary: Summary) -> Result<(), Failure> {
        if summary.status != self.status {
            Err(Failure::Status(summary.status))
        } else if self.length.is_some_and(|length| length != summary.body_length) {
            Err(Failure::Length(summary.body_length))
        } else {
            Ok(())
        }
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    responses: Responses,
}

impl<S: Read + Write> Client<S> {
    /// A client on a connected stream.
    pub fn new(stream: S) -> Client<S> {
        Client { stream, responses: Responses::new() }
    }

    /// The stream it was made of.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends the bytes of one or more requests.
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(requests).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::TimedOut,
            kind => Failure::Send(kind),
        })
    }

    /// Waits for the server to end the connection. Who ends it first keeps its port busy for a minute (TIME_WAIT), and
    /// a client that makes a connection for each request would run out of ports.
    pub fn wait_for_end(mut self) {
        let mut rest = [0; 512];
        while self.stream.read(&mut rest).is_ok_and(|n| n > 0) {}
    }

    /// Reads the next response with its whole body.
    pub fn receive(&mut self) -> Result<Summary, Failure> {
        self.responses.read(&mut self.stream).map_err(|error| match error {
            ReadError::Io(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::TimedOut,
                kind => Failure::Receive(kind),
            },
            ReadError::ClosedBefore => Failure::ClosedBefore,
            ReadError::ClosedWithin => Failure::ClosedWithin,
            ReadError::Malformed(what) => Failure::Malformed(what),
        })
    }
}
