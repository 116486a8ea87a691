//! The socket, and the operators' sessions: read, written and ended without ever waiting.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{Answer, LONGEST, Outcome, Request};
use crate::serve::{SocketFile, remove_stale};

/// How many sessions there may be. One more ends the one that has been silent for longest.
const MOST: usize = 8;
/// How long a session may be silent, as gunicorn has it.
const SILENCE: Duration = Duration::from_secs(300);
/// How long a session may take nothing of its answer.
const UNREAD: Duration = Duration::from_secs(5);

/// The number of a session, never given twice.
pub(crate) type SessionId = u64;

/// The control socket of one master.
pub(crate) struct Control {
    listening: Option<(Socket, SocketFile)>,
    sessions: Vec<Session>,
    next: SessionId,
}

/// Who speaks: as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pid: i32,
    uid: u32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {}", self.pid, self.uid)
    }
}

struct Session {
    id: SessionId,
    peer: Peer,
    stream: UnixStream,
    /// What has come and was not looked at yet.
    heard: Vec<u8>,
    /// What is to be sent, and how much of it was.
    answer: Vec<u8>,
    sent: usize,
    /// A command was handed on, and its answer has not come.
    waits: bool,
    /// Nothing more will come.
    ended: bool,
    /// When something last went to and fro.
    moved: Instant,
}

impl Control {
    /// No socket, and no sessions.
    pub(crate) fn none() -> Control {
        Control { listening: None, sessions: Vec::new(), next: 1 }
    }

    /// Listens at `path` from now on; sessions that exist go on.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens there; those of the file system. Nothing has changed then.
    pub(crate) fn listen(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let name = SockAddr::unix(path)?;
        remove_stale(path, &name)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&name)?;
        let file = SocketFile::new(path.to_path_buf());
        // Nobody can connect before it listens, and by then only who may.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(MOST as i32)?;
        socket.set_nonblocking(true)?;
        self.listening = Some((socket, file));
        Ok(())
    }

    /// Does not listen any more.
    pub(crate) fn close(&mut self) {
        self.listening = None;
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.listening.as_ref().map(|(_, file)| file.path())
    }

    /// Is reached by another name from now on.
    pub(crate) fn rename(&mut self, path: &Path) -> io::Result<()> {
        self.listening.as_mut().map_or(Ok(()), |(_, file)| file.rename(path))
    }

    /// What to wait for.
    pub(crate) fn sources<'c>(&'c self, sources: &mut Vec<PollFd<'c>>) {
        sources.extend(self.listening.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)));
        for session in &self.sessions {
            let flags = match (session.has_answer(), session.waits || session.ended) {
                (true, _) => PollFlags::OUT,
                (false, true) => PollFlags::empty(),
                (false, false) => PollFlags::IN,
            };
            sources.push(PollFd::new(&session.stream, flags));
        }
    }

    /// Takes in who and what has come, sends what there is room for, and ends sessions that are over. Gives the commands,
    /// each of which is to be [answered](Control::answer).
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<(SessionId, Peer, Request)> {
        self.accept(now);
        let mut commands = Vec::new();
        self.sessions.retain_mut(|session| {
            match session.turn(now) {
                Ok(Some(request)) => commands.push((session.id, session.peer, request)),
                Ok(None) => {}
                // Who has gone needs no telling.
                Err(_) => return false,
            }
            !session.is_over(now)
        });
        commands
    }

    /// Answers a session's command. Whose session has ended gets none.
    pub(crate) fn answer(&mut self, to: SessionId, id: u64, outcome: Outcome) {
        if let Some(session) = self.sessions.iter_mut().find(|session| session.id == to) {
            session.waits = false;
            session.say(Answer { id, outcome });
        }
    }

    /// Whether there is more to do at once: a command that has come behind another one.
    pub(crate) fn has_more(&self) -> bool {
        let more = |session: &Session| memchr::memchr(b'\n', &session.heard).is_some();
        self.sessions.iter().any(|session| !session.waits && !session.has_answer() && more(session))
    }

    fn accept(&mut self, now: Instant) {
        let Some((socket, _)) = &self.listening else { return };
        // What goes wrong with one connection, or for want of descriptors, is tried again with the next turn.
        while let Ok((stream, _)) = socket.accept() {
            let Ok(peer) = socket_peercred(stream.as_fd()) else { continue };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.sessions.len() >= MOST {
                let silent = self.sessions.iter().enumerate().min_by_key(|(_, session)| session.moved);
                let Some((place, _)) = silent else { continue };
                self.sessions.remove(place);
            }
            let peer = Peer { pid: peer.pid.as_raw_nonzero().get(), uid: peer.uid.as_raw() };
            self.sessions.push(Session {
                id: self.next,
                peer,
                stream: stream.into(),
                heard: Vec::new(),
                answer: Vec::new(),
                sent: 0,
                waits: false,
                ended: false,
                moved: now,
            });
            self.next += 1;
        }
    }
}

impl Session {
    fn has_answer(&self) -> bool {
        self.sent < self.answer.len()
    }

    fn say(&mut self, answer: Answer) {
        self.answer.extend_from_slice(&answer.line());
    }

    /// At most one command: who asks much waits while others have their turn.
    fn turn(&mut self, now: Instant) -> io::Result<Option<Request>> {
        self.send(now)?;
        if self.waits || self.has_answer() {
            return Ok(None);
        }
        let mut end = memchr::memchr(b'\n', &self.heard);
        if end.is_none() && !self.ended {
            self.receive(now)?;
            end = memchr::memchr(b'\n', &self.heard);
        }
        // Who ends its side may leave out the end of its last line.
        let length = match end {
            Some(end) if end < LONGEST => end,
            None if self.ended && !self.heard.is_empty() => self.heard.len(),
            None if self.heard.len() < LONGEST => return Ok(None),
            _ => {
                let error = format!("a command has at most {LONGEST} bytes");
                self.say(Answer { id: 0, outcome: Outcome::Error { error } });
                self.heard = Vec::new();
                self.ended = true;
                self.send(now)?;
                return Ok(None);
            }
        };
        let line: Vec<u8> = self.heard.drain(..length + usize::from(end.is_some())).collect();
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        self.waits = true;
        Ok(Some(Request::read(line[..length].trim_ascii())))
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        let mut some = [0; LONGEST];
        loop {
            match self.stream.read(&mut some) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.heard.extend_from_slice(&some[..count]);
                    self.moved = now;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        while self.has_answer() {
            match self.stream.write(&self.answer[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.moved = now;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        (self.answer, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    fn is_over(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.moved);
        match (self.has_answer(), self.waits) {
            (true, _) => silent > UNREAD,
            (false, true) => false,
            (false, false) => (self.ended && self.heard.is_empty()) || silent > SILENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::Shutdown;

    use serde_json::json;

    use super::*;
    use crate::control::{Command, beside};

    struct World {
        dir: std::path::PathBuf,
        control: Control,
        now: Instant,
    }

    impl World {
        fn new(name: &str) -> World {
            let dir = std::env::temp_dir().join(format!("gs-control-{}-{name}", std::process::id()));
            let mut control = Control::none();
            control.listen(&dir.join("ctl"), 0o600).unwrap();
            World { dir, control, now: Instant::now() }
        }

        fn connect(&mut self) -> UnixStream {
            let stream = UnixStream::connect(self.control.path().unwrap()).unwrap();
            self.control.turn(self.now);
            stream
        }

        /// The commands of some turns: a session has one in each.
        fn turns(&mut self) -> Vec<(SessionId, Request)> {
            let mut all = Vec::new();
            for _ in 0..4 {
                all.extend(self.control.turn(self.now).into_iter().map(|(id, _, request)| (id, request)));
            }
            all
        }

        fn is_over(&mut self, stream: &mut UnixStream) -> bool {
            self.turns();
            stream.set_nonblocking(true).unwrap();
            let mut rest = Vec::new();
            // A reset is an end, too: of one whose last words nobody wanted to read.
            let end = stream.read_to_end(&mut rest);
            let ended = end.map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |_| true);
            stream.set_nonblocking(false).unwrap();
            ended
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.control.close();
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn line(stream: &UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn commands_are_handed_on_one_after_the_other_and_answered_in_order() {
        let mut world = World::new("order");
        let mut stream = world.connect();
        stream.write_all(b"show wor").unwrap();
        assert!(world.turns().is_empty(), "half a line");
        stream.write_all(b"kers\n\n{\"id\": 5, \"command\": \"reload\"}\nhelp").unwrap();
        let first = world.turns();
        assert_eq!(first.len(), 1, "the second waits for the first's answer");
        let session = first[0].0;
        world.control.answer(session, 0, Outcome::Ok { data: json!({}) });
        let second = world.turns();
        assert_eq!((second[0].1.id, &second[0].1.command), (5, &Ok(Command::Reload)));
        assert_eq!(line(&stream), "{\"id\":0,\"status\":\"ok\",\"data\":{}}\n");
        world.control.answer(session, 5, Outcome::Error { error: "no".to_owned() });
        assert!(world.turns().is_empty(), "half a line again");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(world.turns()[0].1.command, Ok(Command::Help), "the end is one of the line, too");
        world.control.answer(session, 0, Outcome::Ok { data: json!({}) });
        assert!(world.is_over(&mut stream));
    }

    #[test]
    fn a_line_without_end_is_refused_and_ends_the_session() {
        let mut world = World::new("long");
        let mut stream = world.connect();
        stream.write_all(&[b'x'; LONGEST + 1]).unwrap();
        assert!(world.turns().is_empty());
        assert!(line(&stream).contains("at most"));
        assert!(world.is_over(&mut stream));
    }

    #[test]
    fn who_does_not_read_is_dropped_and_who_is_slow_is_not() {
        let mut world = World::new("unread");
        let mut stream = world.connect();
        stream.write_all(b"help\n").unwrap();
        let session = world.turns()[0].0;
        let data = json!("x".repeat(4 << 20));
        world.control.answer(session, 0, Outcome::Ok { data });
        let mut some = vec![0; 50_000];
        for _ in 0..4 {
            world.turns();
            world.now += UNREAD / 2;
            stream.read_exact(&mut some).unwrap();
        }
        assert!(world.control.sessions[0].has_answer());
        world.turns();
        world.now += UNREAD + Duration::from_millis(1);
        world.turns();
        assert!(world.control.sessions.is_empty());
    }

    #[test]
    fn the_one_that_has_been_silent_for_longest_makes_room_for_one_more() {
        let mut world = World::new("many");
        let mut streams = Vec::new();
        for _ in 0..MOST {
            streams.push(world.connect());
            world.now += Duration::from_secs(1);
        }
        streams[0].write_all(b"hel").unwrap();
        world.turns();
        streams.push(world.connect());
        let over: Vec<usize> = (0..=MOST).filter(|at| world.is_over(&mut streams[*at])).collect();
        assert_eq!(over, [1]);
        world.now += SILENCE + Duration::from_secs(1);
        world.turns();
        assert!(world.control.sessions.is_empty(), "and silence has an end");
    }

    #[test]
    fn the_file_has_its_mode_is_nobody_elses_and_goes_with_its_socket() {
        let mut world = World::new("file");
        let path = world.dir.join("ctl");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&world.dir)), (0o600, 0o700));
        let mut other = Control::none();
        assert_eq!(other.listen(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let second = beside(&path, 2);
        other.listen(&second, 0o660).unwrap();
        assert_eq!(mode(&second), 0o660);
        world.control.close();
        assert!(!path.exists());
        other.rename(&path).unwrap();
        assert!(path.exists() && !second.exists());
        UnixStream::connect(&path).unwrap();
    }
}
