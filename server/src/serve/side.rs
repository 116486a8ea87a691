//! The metrics' address: a small server beside the one that is counted, on a thread and a hub of its own.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::listen::Listener;
use super::{Server, ServerHandle};
use crate::metrics::{Meter, Pages};

/// How many may wait to ask.
pub(crate) const BACKLOG: u32 = 128;
/// How many may ask at a time.
const CONNECTIONS: usize = 64;
/// How long those who have asked may take their answer when the server has stopped.
const GRACE: Duration = Duration::from_millis(200);

/// Answers for a server's numbers until it is dropped. Then the last of them are sent, too.
pub(super) struct Side {
    meter: Option<Meter>,
    answering: Option<(ServerHandle, JoinHandle<()>)>,
}

impl Side {
    /// Nothing is done without a meter, and nobody is answered without listeners.
    pub(super) fn start(listeners: Vec<Listener>, meter: Option<Meter>) -> io::Result<Side> {
        let Some(board) = meter.as_ref().map(Meter::board).filter(|_| !listeners.is_empty()) else {
            return Ok(Side { meter, answering: None });
        };
        let server = Server::on(listeners)?
            .worker_connections(CONNECTIONS)
            .keep_alive(Duration::ZERO)
            .graceful_timeout(GRACE)
            .blocked_threshold(None);
        let (handle, pages) = (server.handle(), Pages(board.clone()));
        let answer = move || {
            if let Err(error) = server.serve(pages) {
                log::error!("nobody answers for metrics and health any more: {error}");
            }
        };
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(answer)?;
        Ok(Side { meter, answering: Some((handle, thread)) })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.meter.iter().for_each(|meter| meter.turns());
        if let Some((handle, thread)) = self.answering.take() {
            // Whoever asks too late asks nobody: that need not be waited for.
            handle.leave();
            // That it panicked was said.
            let _ = thread.join();
        }
    }
}
