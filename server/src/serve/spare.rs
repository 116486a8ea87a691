//! Outputs used again: kept by their thread, not by their connection, and not asked of the allocator for each answer.

use std::cell::RefCell;

/// So many pieces are kept by a thread.
const KEPT: usize = 8;
/// Outputs that have grown beyond this are not kept.
const LARGEST_OUTPUT: usize = 256 * 1024;

thread_local! {
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes an empty buffer back.
#[inline]
pub(super) fn keep_output(output: Vec<u8>) {
    if (1..=LARGEST_OUTPUT).contains(&output.capacity()) {
        OUTPUTS.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(output);
            }
        });
    }
}
