//! `Range`: RFC 9110, 14. Which bytes are asked for, and several of them in one response.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use ::http::HeaderValue;

use crate::Body;

/// Which part of a file to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it, with 200: nothing else was asked, or something that cannot be read, or that is out of proportion.
    Whole,
    /// One part.
    One(Range<u64>),
    /// Several parts, in the order they were asked for.
    Several(Vec<Range<u64>>),
    /// None of what was asked for is there: 416.
    Nothing,
}

/// More parts than that are not worth their headers, and a known way to make a server work (RFC 9110, 14.2).
const MOST_PARTS: usize = 16;

/// Reads a `Range` header for a file of `length` bytes.
pub(super) fn select(header: &str, length: u64) -> Selection {
    let Some((unit, set)) = header.split_once('=') else { return Selection::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut parts = Vec::new();
    let mut asked = 0;
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        let Some(part) = part(spec, length) else { return Selection::Whole };
        asked += 1;
        parts.extend((!part.is_empty()).then_some(part));
    }
    let total = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
    match (asked, parts.len()) {
        (0, _) => Selection::Whole,
        (_, 0) => Selection::Nothing,
        (_, 1) => Selection::One(parts.remove(0)),
        (_, n) if n > MOST_PARTS || total > length => Selection::Whole,
        _ => Selection::Several(parts),
    }
}

/// The value of `Content-Range`.
pub(super) fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

/// One `first-last`, `first-` or `-suffix`; empty if there is nothing of it in the file, `None` if it is not one.
fn part(spec: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    match (first, last) {
        ("", suffix) => {
            let suffix = position(suffix)?;
            Some(length.saturating_sub(suffix)..length)
        }
        (first, last) => {
            let first = position(first)?;
            let last = if last.is_empty() { u64::MAX } else { position(last)? };
            if last < first {
                return None;
            }
            let end = last.saturating_add(1).min(length);
            Some(first.min(end)..end)
        }
    }
}

/// A number as long as it likes: what does not fit is beyond the end of any file.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Several parts of one file as `multipart/byteranges` (RFC 9110, 14.6).
pub(super) struct Multipart {
    boundary: String,
    parts: Vec<(String, Range<u64>)>,
}

impl Multipart {
    pub(super) fn new(ranges: Vec<Range<u64>>, length: u64, content_type: &HeaderValue) -> Self {
        // 128 bits that no file can know beforehand
        let [a, b] = [(); 2].map(|()| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(length)
        });
        let boundary = format!("{a:016x}{b:016x}");
        let content_type = content_type.to_str().unwrap_or("application/octet-stream");
        let head = |range: &Range<u64>| {
            let content_range = content_range(range, length);
            format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
            )
        };
        let parts = ranges.into_iter().map(|range| (head(&range), range)).collect();
        Self { boundary, parts }
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    pub(super) fn body(self, file: File) -> Body {
        let end = format!("\r\n--{}--\r\n", self.boundary);
        let parts = self.parts.iter().map(|(head, range)| head.len() as u64 + (range.end - range.start));
        let length = parts.sum::<u64>() + end.len() as u64;
        Body::sized_stream(length, move |out| {
            for (head, range) in self.parts {
                out.write_all(head.as_bytes())?;
                copy(&file, range, out)?;
            }
            out.write_all(end.as_bytes())
        })
    }
}

fn copy(file: &File, range: Range<u64>, out: &mut impl Write) -> io::Result<()> {
    let mut at = range.start;
    let mut piece = vec![0; (range.end - range.start).min(64 << 10) as usize];
    while at < range.end {
        let n = (range.end - at).min(piece.len() as u64) as usize;
        file.read_exact_at(&mut piece[..n], at)?;
        out.write_all(&piece[..n])?;
        at += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_14_says() {
        use Selection::{Nothing, One, Several, Whole};
        for (header, expected) in [
            // 14.1.2
            ("bytes=0-0", One(0..1)),
            ("bytes=0-9", One(0..10)),
            ("bytes=90-", One(90..100)),
            ("bytes=-10", One(90..100)),
            ("bytes=-1000", One(0..100)),
            ("bytes=50-1000", One(50..100)),
            ("bytes=50-99999999999999999999999", One(50..100)),
            ("Bytes = 1-2", One(1..3)),
            ("bytes=100-", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=100-200, 300-400", Nothing),
            ("bytes=0-1,4-5", Several(vec![0..2, 4..6])),
            ("bytes=4-5 ,, 0-1", Several(vec![4..6, 0..2])),
            ("bytes=0-1,200-", One(0..2)),
            // not understood, so ignored: 14.2
            ("", Whole),
            ("bytes", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes=a-b", Whole),
            ("bytes=1", Whole),
            ("bytes=-", Whole),
            ("bytes=2-1", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,x", Whole),
            ("lines=0-1", Whole),
            // out of proportion
            ("bytes=0-,0-", Whole),
            (
                "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,15-15,16-16",
                Whole,
            ),
        ] {
            assert_eq!(select(header, 100), expected, "{header}");
        }
        assert_eq!(select("bytes=0-", 0), Nothing);
        assert_eq!(select("bytes=-5", 0), Nothing);
    }
}
