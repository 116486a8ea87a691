//! Connections that leave HTTP: the answer that says so, and what runs on them after it.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, StatusCode, header};

use super::conn::Conn;
use super::exchange::{Answered, Asked, Broken, Noted, Rest};
use super::failures::described;
use super::respond::{put_head, respond};
use super::transport::Transport;
use crate::app::{Addr, Connection as _, IntoResponse, Kind, Response, TakeOver, Upgraded, Wire};
use crate::http::framing::ResponseBody;
use crate::http::{Connection, Lines, protocols};

/// Answers with a change of protocol, or says why not. The handler's response has an interim status or what takes over.
#[cold]
#[inline(never)]
pub(super) fn switch<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    response: &mut Response,
) -> Result<Answered, Broken> {
    let (status, _, kind) = response.parts();
    let Kind::Upgrade(take_over) = std::mem::take(kind) else {
        let reason = format!("the handler returned the interim status {}", status.as_u16());
        return Err(Broken::Application(reason));
    };
    let is_connect = asked.method == Method::CONNECT;
    if is_connect && status == StatusCode::OK {
        return switched(conn, asked, response, take_over);
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let reason = format!("a tunnel answers CONNECT with 200, and nothing else with {}", status.as_u16());
        return Err(Broken::Application(reason));
    }
    let wanted = response.headers().get(header::UPGRADE).map(|value| value.as_bytes().to_ascii_lowercase());
    let offered = protocols(asked.version, Lines::new(asked.came.bytes()));
    let is_offered = |wanted: &[u8]| offered.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(wanted));
    if is_connect || !wanted.as_deref().is_some_and(is_offered) {
        // RFC 9110, 15.5.22
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        *response.body_mut() = "Upgrade Required\n".into();
        return respond(conn, asked, response);
    }
    switched(conn, asked, response, take_over)
}

/// Sends the head that ends HTTP here, once the whole request is there: no other protocol begins in the midst of one.
fn switched<T: Transport>(
    conn: &Rc<Conn<T>>,
    asked: &Asked,
    response: &mut Response,
    take_over: Box<TakeOver>,
) -> Result<Answered, Broken> {
    if !(conn.could_drain() && conn.drain()) {
        let mut refusal = (
            StatusCode::BAD_REQUEST,
            [(header::CONNECTION, "close")],
            "Bad Request: the body of a request to leave HTTP was not read\n",
        )
            .into_response();
        return respond(conn, asked, &mut refusal);
    }
    let (status, headers, _) = response.parts();
    let mut output = conn.output().map_err(Broken::ClientGone)?;
    let mut input = conn.input().map_err(Broken::ClientGone)?;
    if std::mem::take(&mut input.expects_continue) {
        // Comes first (RFC 9110, 7.8), even for a body of no bytes.
        output.put_continue(false);
    }
    // What comes from now on is no request.
    input.leave_http();
    put_head(conn, &mut output, status, headers, ResponseBody::Absent, Connection::Implied);
    let noted = asked.started.map(|_| Noted::of(response)).unwrap_or_default();
    let rest = Some(Box::new(Rest { noted, take_over: Some(take_over) }));
    Ok(Answered { status, rest, alive: false })
}

/// Sends what lies in the output, the 101 last, and runs what takes the connection over.
#[cold]
#[inline(never)]
pub(super) fn hand_over<T: Transport>(conn: &Rc<Conn<T>>, asked: &Asked, take_over: Box<TakeOver>) {
    let ready = conn.flush().and_then(|()| conn.io().set_upgraded());
    let tunnel = Rc::new(Tunnel { conn: Rc::clone(conn), sent: Cell::new(0), is_over: Cell::new(false) });
    let over = Over(&tunnel);
    let ended = match ready {
        Ok(()) => T::catch(|| take_over(Upgraded::new(Rc::clone(&tunnel) as Rc<dyn Wire>))),
        Err(error) => Ok(Err(error)),
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            log::debug!(
                "{}: {}: the upgraded connection ended: {error}",
                conn.peer(),
                described(asked.came.bytes())
            );
        }
        Err(panic) => {
            let what = described(asked.came.bytes());
            log::error!("{}: {what}: what had taken the connection over panicked: {panic}", conn.peer());
        }
    }
    drop(over);
    if let Ok(mut output) = conn.output() {
        output.body_sent = tunnel.sent.get();
    }
}

/// From here on whoever has kept a handle finds the connection closed.
struct Over<'t, T: Transport>(&'t Tunnel<T>);

impl<T: Transport> Drop for Over<'_, T> {
    fn drop(&mut self) {
        self.0.is_over.set(true);
    }
}

/// An upgraded connection.
struct Tunnel<T: Transport> {
    conn: Rc<Conn<T>>,
    /// How many bytes were written.
    sent: Cell<u64>,
    is_over: Cell<bool>,
}

impl<T: Transport> Tunnel<T> {
    fn io(&self) -> io::Result<&T> {
        if self.is_over.get() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(self.conn.io()) }
    }

    fn count(&self, written: io::Result<usize>) -> io::Result<usize> {
        if let Ok(count) = written {
            self.sent.set(self.sent.get() + count as u64);
        }
        written
    }
}

impl<T: Transport> Wire for Tunnel<T> {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let io = self.io()?;
        match self.conn.input()?.take(buf) {
            0 => io.try_read(buf),
            count => Ok(count),
        }
    }

    fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io()?.wait_readable(timeout)
    }

    fn wake(&self) {
        self.conn.io().wake();
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.count(self.io()?.write(buf))
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.count(self.io()?.try_write(buf))
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io()?.set_write_timeout(timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io()?.shutdown(how)
    }

    fn peer_addr(&self) -> Addr {
        self.conn.peer().clone()
    }

    fn local_addr(&self) -> Option<Addr> {
        self.conn.local_addr()
    }

    fn is_stopping(&self) -> bool {
        self.conn.server.is_stopping()
    }

    fn give_way(&self) {
        self.conn.take_turn();
    }

    fn is_green(&self) -> bool {
        T::GREEN
    }
}
