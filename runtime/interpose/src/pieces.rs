//! Lists of buffers, as `readv` and `sendmsg` take them, of which a part is done.

use libc::iovec;

/// How many buffers a window has: what is left of a longer list is done in several calls.
const WINDOW: usize = 16;

/// A caller's list of buffers. Nothing of it is changed.
#[derive(Clone, Copy)]
pub(crate) struct Pieces {
    first: *const iovec,
    count: usize,
}

/// The next few buffers.
pub(crate) struct Window {
    pub(crate) list: [iovec; WINDOW],
    pub(crate) count: usize,
}

impl Pieces {
    /// # Safety
    /// A list of so many buffers, that the kernel has already read from: a call succeeded with it. It stays as long as this.
    pub(crate) unsafe fn new(first: *const iovec, count: usize) -> Pieces {
        Pieces { first, count }
    }

    /// Those of a message.
    ///
    /// # Safety
    /// The kernel has taken the message.
    pub(crate) unsafe fn of(message: *const libc::msghdr) -> Pieces {
        // SAFETY: so it is valid.
        unsafe { Pieces::new((*message).msg_iov, (*message).msg_iovlen) }
    }

    fn iter(&self) -> impl Iterator<Item = iovec> {
        // SAFETY: the list is as long, which `new`'s caller promised.
        (0..self.count).map(|index| unsafe { self.first.add(index).read() })
    }

    /// The length of all of them together.
    pub(crate) fn total(&self) -> usize {
        self.iter().fold(0, |total, piece| total.saturating_add(piece.iov_len))
    }

    /// What comes after the first `done` bytes, or its beginning.
    pub(crate) fn after(&self, mut done: usize) -> Window {
        let mut window =
            Window { list: [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; WINDOW], count: 0 };
        for piece in self.iter() {
            let skipped = done.min(piece.iov_len);
            done -= skipped;
            if skipped == piece.iov_len {
                continue;
            }
            if window.count == WINDOW {
                break;
            }
            window.list[window.count] = iovec {
                iov_base: piece.iov_base.wrapping_byte_add(skipped),
                iov_len: piece.iov_len - skipped,
            };
            window.count += 1;
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_where_what_is_done_ends() {
        let buffer = [0_u8; 100];
        let piece = |from: usize, length| iovec {
            iov_base: buffer.as_ptr().wrapping_add(from).cast_mut().cast(),
            iov_len: length,
        };
        let list = [piece(0, 10), piece(10, 0), piece(20, 5), piece(30, 70)];
        // SAFETY: it is such a list.
        let pieces = unsafe { Pieces::new(list.as_ptr(), list.len()) };
        assert_eq!(pieces.total(), 85);
        let at = |done| {
            let window = pieces.after(done);
            let first = buffer.as_ptr().addr();
            window.list[..window.count]
                .iter()
                .map(|piece| (piece.iov_base.addr() - first, piece.iov_len))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(0), [(0, 10), (20, 5), (30, 70)]);
        assert_eq!(at(4), [(4, 6), (20, 5), (30, 70)]);
        assert_eq!(at(10), [(20, 5), (30, 70)]);
        assert_eq!(at(84), [(99, 1)]);
        assert_eq!(at(85), []);
    }

    #[test]
    fn a_window_of_a_long_list_is_its_beginning() {
        let list = [iovec { iov_base: std::ptr::null_mut(), iov_len: 1 }; 40];
        // SAFETY: it is such a list.
        let pieces = unsafe { Pieces::new(list.as_ptr(), list.len()) };
        assert_eq!(pieces.after(3).count, WINDOW);
        assert_eq!(pieces.after(30).count, 10);
    }
}
