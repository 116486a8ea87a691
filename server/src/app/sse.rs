//! Server-sent events: a response that goes on and on, of which a browser's `EventSource` makes events (HTML Living Standard,
//! 9.2).
//!
//! ```
//! use std::time::Duration;
//!
//! use greenserve::sse::{self, Event};
//! use greenserve::{Request, Response};
//!
//! fn clock(req: Request) -> Response {
//!     let next = sse::last_event_id(&req).and_then(|id| id.parse().ok()).map_or(0, |last: u64| last + 1);
//!     sse::stream(&req, move |events| {
//!         for n in next.. {
//!             events.send(&Event::new(format!("tick {n}")).id(n.to_string()))?;
//!             greenlet::sleep(Duration::from_secs(1));
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! That a client has left shows when something is sent to it. Who has nothing to say for long sends a
//! [comment](EventStream::comment) now and then: it also keeps proxies from closing the connection. Browsers come back by
//! themselves after an end, and tell the last [id](Event::id) they have seen.

use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use ::http::{HeaderValue, header};

use super::{Body, BodyWriter, Connection, Request, Response, Stopping};

/// A response of which the body is the events that `write` sends, as they come: `text/event-stream`, not to be cached, not to
/// be gathered by proxies (`X-Accel-Buffering: no`, which nginx understands).
///
/// `write` runs as the closure of [`Body::stream`] does. It ends by returning: with the error that says that the client has
/// left, or with the one that says that the server stops (see [`EventStream::send`]), after which the body ends as it should
/// and a browser reconnects.
pub fn stream(
    req: &Request,
    write: impl FnOnce(&mut EventStream<'_, '_>) -> io::Result<()> + 'static,
) -> Response {
    let connection = req.body().as_incoming().map(|incoming| Rc::clone(&incoming.connection));
    let mut response = Response::new(Body::stream(move |out| {
        // The head, so that the client knows that it is heard before anything happens.
        out.flush()?;
        match write(&mut EventStream { out, connection }) {
            Err(error) if Stopping::is(&error) => Ok(()),
            ended => ended,
        }
    }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The id of the last event that a client had seen when its connection ended (`Last-Event-ID`), if it says one.
pub fn last_event_id(req: &Request) -> Option<&str> {
    std::str::from_utf8(req.header("last-event-id")?).ok()
}

/// One event.
///
/// ```
/// use greenserve::sse::Event;
///
/// let event = Event::new("two\nlines").event("note").id("7");
/// assert_eq!(event.to_string(), "event: note\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    data: String,
    event: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
}

impl Event {
    /// An event with that data, of as many lines as it has; `\r` and `\r\n` end a line, too, and come out as `\n`.
    pub fn new(data: impl Into<String>) -> Event {
        Event { data: data.into(), ..Event::default() }
    }

    /// Its type, by which a page listens for it; without one it is a `message`. It ends at a line break: none can be in it.
    pub fn event(mut self, event: impl Into<String>) -> Event {
        self.event = Some(one_line(event.into()));
        self
    }

    /// Its id, which the client tells when it comes back. It ends at a line break or NUL: neither can be in it.
    pub fn id(mut self, id: impl Into<String>) -> Event {
        self.id = Some(one_line(id.into()));
        self
    }

    /// How long the client waits before it comes back after an end, in whole milliseconds.
    pub fn retry(mut self, time: Duration) -> Event {
        self.retry = Some(time);
        self
    }
}

fn one_line(mut text: String) -> String {
    text.truncate(text.find(['\r', '\n', '\0']).unwrap_or(text.len()));
    text
}

/// As it is sent.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(event) = &self.event {
            writeln!(f, "event: {event}")?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        with_line_feeds(&self.data).split('\n').try_for_each(|line| writeln!(f, "data: {line}"))?;
        f.write_str("\n")
    }
}

/// With all ends of lines alike. An empty line at the end counts as one.
fn with_line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Where the closure of [`stream`] sends its events.
pub struct EventStream<'a, 'w> {
    out: &'a mut BodyWriter<'w>,
    connection: Option<Rc<dyn Connection>>,
}

impl EventStream<'_, '_> {
    /// Sends an event at once. Parks while the client takes nothing.
    ///
    /// # Errors
    /// As [`BodyWriter`]'s when the client has left, and [`Stopping`] when the server is to stop: return either.
    pub fn send(&mut self, event: &Event) -> io::Result<()> {
        self.put(&event.to_string())
    }

    /// Sends a comment at once: clients ignore it, while a connection that has broken is noticed, and proxies see that
    /// somebody is there. The usual interval is 15 seconds.
    ///
    /// # Errors
    /// As [`EventStream::send`].
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        let comment = with_line_feeds(text).replace('\n', "\n: ");
        self.put(&format!(": {comment}\n\n"))
    }

    /// Whether the server is to stop: then the stream should come to its end.
    pub fn is_stopping(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_stopping())
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if self.is_stopping() {
            return Err(Stopping.into());
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl fmt::Debug for EventStream<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_data_has_a_field_of_its_own() {
        for (data, sent) in [
            ("", "data: \n\n"),
            ("a", "data: a\n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n"),
            ("a\n", "data: a\ndata: \n\n"),
            ("a\r", "data: a\ndata: \n\n"),
            ("\r\n\r\n", "data: \ndata: \ndata: \n\n"),
            (" a: b", "data:  a: b\n\n"),
        ] {
            assert_eq!(Event::new(data).to_string(), sent, "{data:?}");
        }
    }

    #[test]
    fn nothing_can_be_smuggled_in_by_the_other_fields() {
        let event = Event::new("d").event("e\ndata: evil").id("1\r\n\r\n").retry(Duration::from_millis(1500));
        assert_eq!(event.to_string(), "event: e\nid: 1\nretry: 1500\ndata: d\n\n");
    }

    #[test]
    fn the_stream_is_what_was_sent() {
        let response = stream(&Request::new(Body::empty()), |events| {
            events.send(&Event::new("a"))?;
            events.comment("still\nhere")
        });
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let body = response.into_body().into_bytes().unwrap();
        assert_eq!(&body[..], b"data: a\n\n: still\n: here\n\n");
    }
}
