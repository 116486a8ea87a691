//! What clients say again and again.

use super::Limits;
use super::fields::{Facts, Terms};

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
        KnownFields { blocks: [Block::NONE; KNOWN], next: 0 }
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

impl Default for KnownFields {
    fn default() -> KnownFields {
        KnownFields::new()
    }
}
