//! Runs tables of exact bytes and exact answers.
//!
//! Behind each row's input comes a [`PROBE`], a request that is all right: it tells a connection that lives on, and in step,
//! from one that has ended, and it must not be executed on the latter. What comes back is compared byte for byte, but for
//! `Date` and for `100 Continue`, which is not sent to one whose body is there already.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use greenserve::StatusCode;
use greenserve_tests::PATIENCE;

use crate::app::{Mode, Running, Setup};

const PROBE: &str = "GET /probe HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n";
const PROBED: Answer = Answer::Last("GET /probe 1.1 p []");
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One answer that must come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The application's, with this text; the connection lives on.
    App(&'static str),
    /// The same, but the connection ends after it.
    Last(&'static str),
    /// The same, and an HTTP/1.0 client is told that the connection lives on.
    Kept(&'static str),
    /// The server's refusal of a request, with its status and reason. The connection ends.
    No(u16, &'static str),
    /// The same in answer to HEAD: no body, though its length is told.
    NoToHead(u16, &'static str),
    /// The request's body can't be read: the status and the text. The connection ends.
    BadBody(u16, &'static str),
    /// What is exactly sent, without `Date`. The connection lives on.
    Exactly(&'static str),
    /// The same, and the connection ends.
    ExactlyLast(&'static str),
}

use Answer::*;

impl Answer {
    fn ends(self) -> bool {
        !matches!(self, App(_) | Kept(_) | Exactly(_))
    }

    fn write(self, out: &mut Vec<u8>) {
        let (status, connection, body) = match self {
            App(text) => (200, "", text.to_owned()),
            Last(text) => (200, "close", text.to_owned()),
            Kept(text) => (200, "keep-alive", text.to_owned()),
            No(status, reason) | NoToHead(status, reason) => {
                (status, "close", format!("{}: {reason}\n", phrase(status)))
            }
            BadBody(status, text) => (status, "close", format!("{text}\n")),
            Exactly(bytes) | ExactlyLast(bytes) => return out.extend_from_slice(bytes.as_bytes()),
        };
        let mut head = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
        head.push_str("content-type: text/plain; charset=utf-8\r\n");
        let _ = write!(head, "content-length: {}\r\n", body.len());
        if !connection.is_empty() {
            let _ = write!(head, "connection: {connection}\r\n");
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !matches!(self, NoToHead(..)) {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

fn phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status).unwrap().canonical_reason().unwrap()
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// Section and rule.
    name: &'static str,
    /// What the client sends, the probe included.
    bytes: Vec<u8>,
    /// How much of it is the row's own.
    own: usize,
    /// The client closes its side behind it; there is no probe then.
    finishes: bool,
    expected: Vec<u8>,
}

/// `input` gets these `answers`.
pub(crate) fn row(name: &'static str, input: impl AsRef<[u8]>, answers: &[Answer]) -> Row {
    let own = input.as_ref().len();
    let mut expected = Vec::new();
    answers.iter().for_each(|answer| answer.write(&mut expected));
    if !answers.last().is_some_and(|last| last.ends()) {
        PROBED.write(&mut expected);
    }
    Row { name, bytes: [input.as_ref(), PROBE.as_bytes()].concat(), own, finishes: false, expected }
}

/// `input` and the end of the client's side get these `answers`, and then the end.
pub(crate) fn ended(name: &'static str, input: impl AsRef<[u8]>, answers: &[Answer]) -> Row {
    let bytes = input.as_ref().to_vec();
    let mut expected = Vec::new();
    answers.iter().for_each(|answer| answer.write(&mut expected));
    Row { name, own: bytes.len(), bytes, finishes: true, expected }
}

/// A request with this line and a `Host`.
pub(crate) fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: a\r\n\r\n"].concat()
}

/// A request with `Host` and this field.
pub(crate) fn field(field: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", field.as_ref(), b"\r\n\r\n"].concat()
}

/// A request with this chunked body.
pub(crate) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body.as_ref()].concat()
}

/// Every row whole, cut in two at every position (or at many, if it is long), and byte by byte, with green threads and with
/// OS threads.
#[track_caller]
pub(crate) fn check(rows: &[Row], setup: Setup) {
    let mut faults = Vec::new();
    for mode in [Mode::Green, Mode::Threads] {
        let server = Running::start(mode, setup);
        let mut table = Table { addr: server.addr, mode, faults: &mut faults };
        table.whole(rows);
        table.cut_in_two(rows);
        table.byte_by_byte(rows);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Every row whole, with green threads and with OS threads: for what does not depend on how the input comes.
#[track_caller]
pub(crate) fn check_whole(rows: &[Row], setup: Setup) {
    let mut faults = Vec::new();
    for mode in [Mode::Green, Mode::Threads] {
        let server = Running::start(mode, setup);
        Table { addr: server.addr, mode, faults: &mut faults }.whole(rows);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// So many faults are looked for.
const ENOUGH: usize = 6;
/// So many connections at the same time.
const AT_ONCE: usize = 200;
/// At so many positions a row is cut: all of them if it is no longer.
const CUTS: usize = 300;
const CUTS_WITH_THREADS: usize = 6;

struct Table<'f> {
    addr: SocketAddr,
    mode: Mode,
    faults: &'f mut Vec<String>,
}

impl Table<'_> {
    fn whole(&mut self, rows: &[Row]) {
        for rows in rows.chunks(AT_ONCE) {
            let mut clients: Vec<Client> = rows.iter().map(|_| Client::new(self.addr)).collect();
            for (client, row) in clients.iter_mut().zip(rows) {
                client.send(&row.bytes);
                client.end_after(row);
            }
            for (client, row) in clients.iter_mut().zip(rows) {
                self.compare(client, row, "whole");
            }
        }
    }

    fn cut_in_two(&mut self, rows: &[Row]) {
        let most = if self.mode == Mode::Green { CUTS } else { CUTS_WITH_THREADS };
        let cuts: Vec<(&Row, usize)> = rows
            .iter()
            .flat_map(|row| {
                let step = row.own.div_ceil(most).max(1);
                (1..=row.own.min(row.bytes.len().saturating_sub(1))).step_by(step).map(move |cut| (row, cut))
            })
            .collect();
        let mut fence = Client::new(self.addr);
        for cuts in cuts.chunks(AT_ONCE) {
            let mut clients: Vec<Client> = cuts.iter().map(|_| Client::new(self.addr)).collect();
            for (client, (row, cut)) in clients.iter_mut().zip(cuts) {
                client.send(&row.bytes[..*cut]);
            }
            fence.round_trip();
            for (client, (row, cut)) in clients.iter_mut().zip(cuts) {
                client.send(&row.bytes[*cut..]);
                client.end_after(row);
            }
            for (client, (row, cut)) in clients.iter_mut().zip(cuts) {
                self.compare(client, row, &format!("cut at {cut}"));
            }
        }
    }

    fn byte_by_byte(&mut self, rows: &[Row]) {
        let mut fence = Client::new(self.addr);
        for rows in rows.chunks(AT_ONCE) {
            let mut clients: Vec<Client> = rows.iter().map(|_| Client::new(self.addr)).collect();
            // All advance together, so that the way to the server and back is paid once for each byte. What is very long
            // goes on in larger pieces.
            let longest = rows.iter().map(|row| row.bytes.len()).max().unwrap_or(0);
            let mut at = 0;
            while at < longest {
                let step = if at < 600 { 1 } else { 97 };
                for (client, row) in clients.iter_mut().zip(rows) {
                    let end = (at + step).min(row.bytes.len());
                    if at < end {
                        client.send(&row.bytes[at..end]);
                    }
                }
                fence.round_trip();
                at += step;
            }
            clients.iter_mut().zip(rows).for_each(|(client, row)| client.end_after(row));
            for (client, row) in clients.iter_mut().zip(rows) {
                self.compare(client, row, "byte by byte");
            }
        }
    }

    fn compare(&mut self, client: &mut Client, row: &Row, way: &str) {
        // Each fault may have taken all of the patience.
        if self.faults.len() >= ENOUGH {
            return;
        }
        let got = client.answers();
        if got.as_deref() != Ok(&row.expected) {
            let got = got.map_or_else(|fault| fault, |bytes| bytes.escape_ascii().to_string());
            self.faults.push(format!(
                "{}, {way}, {:?}\n  sent     {}\n  got      {got}\n  expected {}",
                row.name,
                self.mode,
                row.bytes[..row.own.min(400)].escape_ascii(),
                row.expected.escape_ascii()
            ));
        }
    }
}

/// A raw connection.
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Client {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream }
    }

    /// Sends what the server will take; that it takes no more shows in what comes back.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn end_after(&mut self, row: &Row) {
        if row.finishes {
            self.finish();
        }
    }

    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// A request and its answer: the server has seen what others have sent before.
    fn round_trip(&mut self) {
        for _ in 0..2 {
            self.stream.write_all(b"GET /f HTTP/1.1\r\nHost: f\r\n\r\n").unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"GET /f 1.1 f []") {
                let mut piece = [0; 512];
                let count = self.stream.read(&mut piece).unwrap();
                assert_ne!(count, 0, "the server has ended the connection: {}", seen.escape_ascii());
                seen.extend_from_slice(&piece[..count]);
            }
        }
    }

    /// Everything up to a regular end, without dates and interim answers.
    pub(crate) fn answers(&mut self) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Ok(_) => Ok(normal(&all)),
            Err(error) => Err(format!("{error} after {}", all.escape_ascii())),
        }
    }

    /// Everything up to a regular end, as it is.
    pub(crate) fn everything(&mut self) -> std::io::Result<String> {
        let mut all = String::new();
        self.stream.read_to_string(&mut all).map(|_| all)
    }
}

/// Without `Date` fields and `100 Continue`.
fn normal(bytes: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(CONTINUE) {
            rest = after;
        } else if rest.starts_with(b"date: ") && rest.get(35..37) == Some(b"\r\n") {
            rest = &rest[37..];
        } else {
            normal.push(rest[0]);
            rest = &rest[1..];
        }
    }
    normal
}
