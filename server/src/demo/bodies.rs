//! Bodies of every sort, in both directions.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::inspect::json;
use super::query::Query;
use super::{Answer, Demo};
use crate::{Body, BodyWriter, IntoResponse, Request};

/// `/stream?n=&size=&delay_ms=&empty=`: n writes (at most a million) of size bytes (at most a mebibyte), each flushed,
/// with a pause (at most a minute) after each. The first write is all a, the next all b, and so on.
pub(super) fn stream(demo: &Demo, req: Request) -> Answer {
    let query = Query::of(&req);
    let n = query.number("n", 10, 0..=1_000_000)?;
    let size = query.number("size", 20, 0..=1 << 20)? as usize;
    let delay = Duration::from_millis(query.number("delay_ms", 0, 0..=60_000)?);
    let empty = query.number("empty", 0, 0..=1)? == 1;
    let demo = *demo;
    let body = Body::stream(move |out| {
        let mut piece = vec![0; size];
        for letter in (b'a'..=b'z').cycle().take(n as usize) {
            piece.fill(letter);
            if empty {
                out.write_all(b"")?;
                out.flush()?;
            }
            out.write_all(&piece)?;
            out.flush()?;
            if empty {
                out.write_all(b"")?;
                out.flush()?;
            }
            if !delay.is_zero() {
                demo.sleep(delay);
            }
        }
        Ok(())
    });
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

/// `/fixed?n=`: n bytes (at most eight gibibytes) with `Content-Length`, the digits over and over.
pub(super) fn fixed(_: &Demo, req: Request) -> Answer {
    let n = Query::of(&req).number("n", 1000, 0..=8 << 30)?;
    let body = Body::sized_stream(n, move |out| digits(out, n));
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

/// `/no-length`: a short body of a length that nobody declared.
pub(super) fn no_length(_: &Demo, _: Request) -> Answer {
    let body = Body::stream(|out| out.write_all(b"a body of undeclared length\n"));
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

/// `/bad-length?declared=&actual=`: a body (at most a mebibyte) that breaks its word.
pub(super) fn bad_length(_: &Demo, req: Request) -> Answer {
    let query = Query::of(&req);
    let declared = query.number("declared", 10, 0..=1 << 20)?;
    let actual = query.number("actual", 5, 0..=1 << 20)?;
    let body = Body::sized_stream(declared, move |out| digits(out, actual));
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

#[derive(Serialize)]
struct Upload {
    sha256: String,
    length: u64,
}

/// `/upload`: the digest and the length of the body, which is never held in memory.
pub(super) fn upload(_: &Demo, req: Request) -> Answer {
    let mut body = req.into_body();
    let mut digest = Sha256::new();
    let mut length = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        match body.read(&mut piece)? {
            0 => break,
            n => {
                digest.update(&piece[..n]);
                length += n as u64;
            }
        }
    }
    let mut sha256 = String::new();
    for byte in digest.finalize() {
        // writing to a String cannot fail
        let _ = write!(sha256, "{byte:02x}");
    }
    json(&Upload { sha256, length })
}

fn digits(out: &mut BodyWriter<'_>, mut n: u64) -> io::Result<()> {
    let piece = b"0123456789".repeat(6_000);
    while n > 0 {
        let part = n.min(piece.len() as u64);
        out.write_all(&piece[..part as usize])?;
        n -= part;
    }
    Ok(())
}
