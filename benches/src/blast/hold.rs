//! Connections that are held open for somebody to look at the server meanwhile.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Answer, PATIENCE};

/// Connections that are held until this is dropped; then they are reset, so that none keeps its port.
#[derive(Debug)]
pub struct Held {
    address: SocketAddr,
    request: Vec<u8>,
    answer: Option<Answer>,
    streams: Vec<TcpStream>,
}

/// Connects `number` times and sends `request` on each. With `answer` its whole answer is read before the next one is
/// connected, else nothing is read and the server is left busy with it.
///
/// # Errors
///
/// If a connection can't be made, or an answer isn't what is expected, or it takes longer than `most` in all.
pub fn hold(
    address: SocketAddr,
    request: &[u8],
    answer: Option<Answer>,
    number: usize,
    most: Duration,
) -> io::Result<Held> {
    let mut held = Held { address, request: request.to_vec(), answer, streams: Vec::with_capacity(number) };
    held.grow(number, most)?;
    Ok(held)
}

impl Held {
    /// Makes it `number` connections in all; fewer than there are already change nothing.
    ///
    /// # Errors
    ///
    /// As [`hold`] does.
    pub fn grow(&mut self, number: usize, most: Duration) -> io::Result<()> {
        let begin = Instant::now();
        for made in self.streams.len()..number {
            let failed =
                |error: io::Error| io::Error::new(error.kind(), format!("connection {made}: {error}"));
            let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(failed)?;
            stream.write_all(&self.request).map_err(failed)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            if let Some(answer) = self.answer {
                let mut buffer = vec![0; answer.length.ok_or(io::ErrorKind::Unsupported)?];
                stream.read_exact(&mut buffer).map_err(failed)?;
                if !buffer.starts_with(&answer.start) {
                    return Err(failed(io::Error::other("not the expected answer")));
                }
            }
            self.streams.push(stream);
            if begin.elapsed() > most {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("connection {made} was made only after {:.0} s", most.as_secs_f64()),
                ));
            }
        }
        Ok(())
    }

    /// How many of them the server has ended or answered meanwhile.
    ///
    /// # Errors
    ///
    /// If the kernel doesn't say.
    pub fn stirred(&self) -> io::Result<usize> {
        let mut stirred = 0;
        for streams in self.streams.chunks(1024) {
            let mut polled: Vec<_> =
                streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)).collect();
            stirred += poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        }
        Ok(stirred)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for stream in &self.streams {
            // closing then sends a reset; if it fails the port is kept for a minute, no more
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}
