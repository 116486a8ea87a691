//! What clients say again and again.

use super::Limits;
use super::fields::Facts;

/// So many are remembered, the longest of so many bytes.
const KNOWN: usize = 4;
const LONGEST: usize = 1024;
/// Enough of a block's end to tell most of them apart.
const TAIL: usize = 8;

/// Blocks of field lines that were read not long ago, with what was found out about them.
///
/// A client says the same with each request of a connection, but for the request line: such a block needs to be compared,
/// not read. What is found out about a block depends on its bytes alone, so it doesn't matter whose it was. Blocks that hold
/// secrets are not remembered: how long a comparison takes would tell others of them.
#[derive(Debug, Default)]
pub struct KnownFields {
    blocks: [Block; KNOWN],
    /// The one to be forgotten next.
    next: usize,
}

#[derive(Debug, Default)]
struct Block {
    /// With the empty line at its end.
    lines: Vec<u8>,
    tail: [u8; TAIL],
    facts: Facts,
}

impl KnownFields {
    /// The length of the block that `bytes` begin with, and what is known of it, if it was remembered.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8], limits: &Limits) -> Option<(usize, &Facts)> {
        let block = self.blocks.iter().find(|block| {
            let length = block.lines.len();
            // An empty line ends the block, and none is in it: so what begins like it ends there, too.
            length >= TAIL
                && bytes.get(length - TAIL..length) == Some(&block.tail)
                && bytes[..length] == block.lines[..]
        })?;
        block.facts.within(limits).then_some((block.lines.len(), &block.facts))
    }

    /// Remembers a block of which all was found right.
    pub(super) fn remember(&mut self, lines: &[u8], facts: &Facts) {
        let Some((_, tail)) = lines.split_last_chunk() else { return };
        if lines.len() > LONGEST || facts.secret {
            return;
        }
        let block = &mut self.blocks[self.next];
        block.lines.clear();
        block.lines.extend_from_slice(lines);
        (block.tail, block.facts) = (*tail, *facts);
        self.next = (self.next + 1) % KNOWN;
    }
}
