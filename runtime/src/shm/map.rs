//! Memory that a process shares with those forked from it.

use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// What may lie in memory that several processes share: plain data without pointers, padding or invalid bit patterns, as
/// `bytemuck`'s `Pod` says. Integers, floats, `()` and arrays of them are; a `#[repr(C)]` struct of one's own becomes it by
/// `#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]`.
///
/// Any bit pattern must do, because a process can be killed in the midst of a change: the next one then sees a value
/// of which some bytes are new and others are not.
pub trait Shareable: bytemuck::Pod + Send + Sync {}

impl<T: bytemuck::Pod + Send + Sync> Shareable for T {}

/// What may be made of zeroed memory and be used by several processes at once.
///
/// # Safety
/// All zeroes are a valid value; it has no pointers and no destructor; whatever changes in it behind a shared reference is in
/// atomics, or in cells whose use the type itself orders between processes; its alignment is at most a page's.
pub(super) unsafe trait Layout: Sync {}

/// Maps so many zeroed bytes, aligned to a page, that forked processes share.
///
/// # Errors
/// What mmap(2) reports: no memory, no room for another mapping, no bytes asked for.
pub(super) fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice changes no memory that anyone uses.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// A mapping of one `S`. It goes when the last process that has it unmaps it or ends: the kernel counts.
pub(super) struct Mapping<S: Layout>(NonNull<S>);

// SAFETY: it is a reference to an S, which is Sync; unmapping may be done by any thread.
unsafe impl<S: Layout> Send for Mapping<S> {}
// SAFETY: as above.
unsafe impl<S: Layout> Sync for Mapping<S> {}

impl<S: Layout> Mapping<S> {
    /// The least size of a page anywhere.
    const ALIGNED: () =
        assert!(align_of::<S>() <= 4096, "a value in shared memory is aligned to a page at most");

    /// Maps zeroes.
    ///
    /// # Errors
    /// What mmap(2) reports: no memory, no room for another mapping.
    pub(super) fn new() -> io::Result<Mapping<S>> {
        let () = Self::ALIGNED;
        map(size_of::<S>()).map(|start| Mapping(start.cast()))
    }

    /// Keeps it for as long as the process lives.
    pub(super) fn leak(self) -> &'static S {
        let start = self.0;
        std::mem::forget(self);
        // SAFETY: mapped, aligned to a page, zeroed, which is valid as `Layout` promises; never unmapped from now on.
        unsafe { start.as_ref() }
    }
}

impl<S: Layout> Deref for Mapping<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        // SAFETY: mapped for as long as `self` lives, aligned to a page, and valid as `Layout` promises. Others change it only as that
        // trait allows.
        unsafe { self.0.as_ref() }
    }
}

impl<S: Layout> Drop for Mapping<S> {
    fn drop(&mut self) {
        // SAFETY: it is our own mapping, and nobody refers to it any more, since all such references borrow `self`. Fails only
        // for ranges that are none.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<S>()) };
    }
}
