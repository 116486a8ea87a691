//! What goes on: WebSockets, server-sent events, and a page on which a browser tries it all.

use std::io;
use std::time::Duration;

use super::query::Query;
use super::{Answer, Demo};
use crate::sse::{self, Event};
use crate::{IntoResponse, Request, Response};

/// `/live`: a page whose script probes the server from a browser, and writes what has come of it into itself.
pub(super) fn page(_: &Demo, _: Request) -> Answer {
    Ok(([("content-type", "text/html; charset=utf-8")], include_str!("live.html")).into_response())
}

/// `/events?n=&delay_ms=`: n events (at most a million) with a pause (at most a minute) before each but the first, numbered
/// on from the `Last-Event-ID`.
pub(super) fn events(demo: &Demo, req: Request) -> Answer {
    let query = Query::of(&req);
    let n = query.number("n", 10, 0..=1_000_000)?;
    let delay = Duration::from_millis(query.number("delay_ms", 100, 0..=60_000)?);
    let last = sse::last_event_id(&req).and_then(|id| id.parse().ok()).unwrap_or(0_u64);
    let demo = *demo;
    Ok(sse::stream(&req, move |events| {
        for count in 1..=n {
            if count > 1 && !delay.is_zero() {
                demo.sleep(delay);
            }
            let id = last.saturating_add(count);
            let event = Event::new(format!("event {id}\nof {}", last.saturating_add(n)));
            events.send(&event.event("count").id(id.to_string()))?;
        }
        Ok(())
    }))
}

/// `/ws`: a WebSocket that sends back each message.
#[cfg(feature = "websocket")]
pub(super) fn echo(_: &Demo, req: Request) -> Answer {
    fn echo(ws: &mut crate::websocket::WebSocket) -> io::Result<()> {
        while let Some(message) = ws.recv()? {
            ws.send(message)?;
        }
        Ok(())
    }
    Ok(crate::websocket::Acceptor::new().protocols(["echo"]).accept(req, echo))
}

/// `/ws` in a build without WebSockets.
#[cfg(not(feature = "websocket"))]
pub(super) fn echo(_: &Demo, _: Request) -> Answer {
    Ok(crate::StatusCode::NOT_IMPLEMENTED.into_response())
}

/// `/upgrade`: sends back what comes, byte by byte, to whoever asks to `Upgrade: echo`.
pub(super) fn upgrade(_: &Demo, _: Request) -> Answer {
    Ok(Response::upgrade("echo", |io| io::copy(&mut &io, &mut &io).map(drop)))
}
