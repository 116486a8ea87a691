//! The operator's end.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::path::is_one_of;
use super::protocol::{Answer, Outcome};

/// How long a master may take for an answer. Its workers have half a minute for theirs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session with a master.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// # Errors
    /// Nobody listens there; those of the file system.
    pub(crate) fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Has a command carried out.
    ///
    /// # Errors
    /// `TimedOut` or `WouldBlock` if the master doesn't answer, `UnexpectedEof` if it ends the session, `InvalidData` if what it says
    /// is no answer.
    pub(crate) fn ask(&mut self, words: &[String]) -> io::Result<Outcome> {
        let mut line = serde_json::to_vec(&json!({"id": 1, "command": words.join(" ")}))?;
        line.push(b'\n');
        self.stream.get_ref().write_all(&line)?;
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let what = "the server has ended the session without an answer";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        Ok(serde_json::from_slice::<Answer>(&line)?.outcome)
    }
}

/// The sockets of living masters at `path` and beside it, in the order of their names.
pub(crate) fn find(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(plain)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| is_one_of(&entry.file_name(), plain));
    let mut alive: Vec<PathBuf> =
        named.map(|entry| entry.path()).filter(|path| UnixStream::connect(path).is_ok()).collect();
    alive.sort();
    alive
}
