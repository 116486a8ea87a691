//! What clients say again and again.

use ::http::Method;

use super::fields::{Facts, Terms};
use super::{Head, Limits};

/// So many are remembered, the longest of so many bytes.
const KNOWN: usize = 4;
const LONGEST: usize = 1024;
/// Enough of a block's end to tell most of them apart.
const TAIL: usize = 8;

/// Blocks of field lines that were read not long ago in requests of HTTP/1.1, with what they come to.
///
/// A client says the same with each request of a connection, but for the request line: such a block needs to be compared,
/// not read. What is found out about a block depends on its bytes alone, so it doesn't matter whose it was. Blocks that hold
/// secrets are not remembered: how long a comparison takes would tell others of them.
#[derive(Debug)]
pub struct KnownFields {
    blocks: [Block; KNOWN],
    /// The one to be forgotten next.
    next: usize,
    last: Option<Last>,
}

/// The whole head that was read last: many clients ask for one thing again and again.
#[derive(Debug)]
struct Last {
    bytes: Vec<u8>,
    head: Head,
    limits: Limits,
}

#[derive(Debug)]
struct Block {
    /// With the empty line at its end.
    lines: Vec<u8>,
    tail: [u8; TAIL],
    count: usize,
    longest: usize,
    terms: Terms,
}

impl Block {
    const NONE: Block =
        Block { lines: Vec::new(), tail: [0; TAIL], count: 0, longest: 0, terms: Terms::PLAIN };
}

impl KnownFields {
    /// None at first.
    pub const fn new() -> KnownFields {
        KnownFields { blocks: [Block::NONE; KNOWN], next: 0, last: None }
    }

    /// The length of the block that `bytes` begin with, and its terms, if it was remembered.
    #[inline(always)]
    pub(super) fn find(&self, bytes: &[u8], limits: &Limits) -> Option<(usize, &Terms)> {
        let block = self.blocks.iter().find(|block| {
            let length = block.lines.len();
            // An empty line ends the block, and none is in it: so what begins like it ends there, too.
            length >= TAIL
                && bytes.get(length - TAIL..length) == Some(&block.tail)
                && bytes[..length] == block.lines[..]
        })?;
        // The limits may be another server's.
        let allowed = limits.fields_allow(block.count, block.longest) && block.terms.within(limits);
        allowed.then_some((block.lines.len(), &block.terms))
    }

    /// The head that `bytes` begin with and its length, if it is the one before once more.
    #[inline(always)]
    pub(super) fn again(&self, bytes: &[u8], limits: &Limits) -> Option<(Head, usize)> {
        let last = self.last.as_ref()?;
        // No head begins another: each ends with its first empty line.
        let known = same(bytes.get(..last.bytes.len())?, &last.bytes) && last.limits == *limits;
        if known { Some((Head { method: Method::GET, ..last.head }, last.bytes.len())) } else { None }
    }

    /// Remembers a `GET` of HTTP/1.1 without a query, `bytes` and all; its fields are known.
    #[inline]
    pub(super) fn remember_head(&mut self, bytes: &[u8], head: &Head, limits: &Limits) {
        let line = head.line;
        if bytes.len() > LONGEST || head.method != Method::GET || line.path_end != line.target_end {
            return;
        }
        let mut kept = self.last.take().map(|last| last.bytes).unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(bytes);
        self.last = Some(Last { bytes: kept, head: head.clone(), limits: limits.clone() });
    }

    /// Remembers a block of which all was found right.
    pub(super) fn remember(&mut self, lines: &[u8], facts: &Facts, terms: Terms) {
        let Some((_, tail)) = lines.split_last_chunk() else { return };
        if lines.len() > LONGEST || facts.secret {
            return;
        }
        let block = &mut self.blocks[self.next];
        block.lines.clear();
        block.lines.extend_from_slice(lines);
        block.tail = *tail;
        (block.count, block.longest, block.terms) = (facts.count, facts.longest, terms);
        self.next = (self.next + 1) % KNOWN;
    }
}

/// Whether the two are equal. It takes as long wherever they differ: a path may be somebody's secret.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let words =
        a.iter().zip(b).fold(0, |differ, (a, b)| differ | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)));
    let bytes = a_rest.iter().zip(b_rest).fold(0, |differ, (a, b)| differ | (a ^ b));
    words == 0 && bytes == 0
}

impl Default for KnownFields {
    fn default() -> KnownFields {
        KnownFields::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeadReader;
    use super::*;

    #[test]
    fn a_head_is_known_again_only_whole_and_within_the_same_limits() {
        let mut known = KnownFields::new();
        let limits = Limits::default();
        let mut read = |head: &str, limits: &Limits| {
            let found = HeadReader::default().read(head.as_bytes(), limits, &mut known).unwrap()?;
            let head = found.head.map(|head| (head.method.to_string(), head.target(), found.extent.end));
            Some((head, known.last.as_ref().map(|last| last.bytes.len())))
        };
        let first = "GET /one HTTP/1.1\r\nHost: h\r\n\r\n";
        let expected = |head: &str, end: usize| Ok((head.to_owned(), 4..end, first.len()));
        // The fields must be known first.
        assert_eq!(read(first, &limits), Some((expected("GET", 8), None)));
        for _ in 0..3 {
            assert_eq!(read(first, &limits), Some((expected("GET", 8), Some(first.len()))));
        }
        assert_eq!(read(&first[..first.len() - 1], &limits), None);
        let other = first.replace("one", "two");
        assert_eq!(read(&other, &limits).unwrap().0, expected("GET", 8));
        assert_eq!(
            read(&other.replace("two", "t?o"), &limits),
            Some((expected("GET", 8), Some(first.len())))
        );
        assert_eq!(read(&other.replace("GET", "PUT"), &limits).unwrap().0, expected("PUT", 8));
        let narrow = Limits { request_line: 10, ..Limits::default() };
        assert!(HeadReader::default().read(other.as_bytes(), &narrow, &mut known).is_err());
    }

    #[test]
    fn every_byte_counts() {
        let head: Vec<u8> = (0..37).collect();
        assert!(same(&head, &head.clone()));
        for at in 0..head.len() {
            let mut other = head.clone();
            other[at] ^= 0x80;
            assert!(!same(&head, &other), "{at}");
        }
    }
}
