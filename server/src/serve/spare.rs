//! Memory used again: what each request needs for a moment is kept by its thread, not by its connection, and not asked of
//! the allocator each time.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// So many pieces of each kind are kept by a thread.
const KEPT: usize = 8;
/// Heads that take more are not kept; most take less than `HEAD`.
const LARGEST_HEAD: usize = 4 * 1024;
const HEAD: usize = 512;
/// Outputs that have grown beyond this are not kept.
const LARGEST_OUTPUT: usize = 256 * 1024;

thread_local! {
    static HEADS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A copy of a request's head.
pub(super) fn head(bytes: &[u8]) -> Bytes {
    let mut head = HEADS.with_borrow_mut(Vec::pop).unwrap_or_else(new_head);
    head.extend_from_slice(bytes);
    head.freeze()
}

#[cold]
fn new_head() -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD);
    // Splitting makes it a shared one: it has its count of references from now on, and not anew with each head.
    drop(head.split_to(0));
    head
}

/// Takes a head back, if nobody has a part of it any more.
pub(super) fn keep_head(head: Bytes) {
    if let Ok(mut head) = head.try_into_mut()
        && head.capacity() <= LARGEST_HEAD
    {
        head.clear();
        keep(&HEADS, head);
    }
}

/// An empty buffer.
pub(super) fn output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes an empty buffer back.
pub(super) fn keep_output(output: Vec<u8>) {
    if (1..=LARGEST_OUTPUT).contains(&output.capacity()) {
        keep(&OUTPUTS, output);
    }
}

fn keep<P>(kept: &'static std::thread::LocalKey<RefCell<Vec<P>>>, piece: P) {
    kept.with_borrow_mut(|kept| {
        if kept.len() < KEPT {
            kept.push(piece);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_used_again_once_nobody_holds_a_part_of_it() {
        let first = head(b"GET /first HTTP/1.1\r\n\r\n");
        let (place, part) = (first.as_ptr(), first.slice(4..10));
        keep_head(first);
        let second = head(b"GET /second HTTP/1.1\r\n\r\n");
        assert_eq!(&part[..], b"/first");
        drop(part);
        assert_ne!(second.as_ptr(), place);
        let place = second.as_ptr();
        keep_head(second);
        assert_eq!(head(b"GET").as_ptr(), place);
        keep_head(head(&[b'x'; 2 * LARGEST_HEAD]));
        assert_eq!(&head(b"GET")[..], b"GET");
    }
}
