//! What the operating system is asked for: address space, guards, and pages given back.
//!
//! The functions here are neutral in name and meaning; a port to another system rewrites their bodies. All
//! addresses and lengths are whole pages.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void};

/// `MADV_GUARD_INSTALL` (Linux 6.13), not in `libc` yet. The number is part of the kernel's ABI.
const MADV_GUARD_INSTALL: c_int = 102;

/// "The calling thread" where a system call wants a pidfd (Linux 6.14, for `process_madvise` 6.15), not in `libc` yet
/// either.
const PIDFD_SELF_THREAD: c_int = -10000;

/// The most guards that [`guards_light`] makes in one call.
pub(super) const ROW: usize = 128;

/// Bytes of a page of memory.
pub(super) fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    match SIZE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf reads no memory of ours.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096);
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// Reserves `len` bytes of address space, readable and writable, which occupy memory only page by page as
/// they are touched, and never as huge pages.
///
/// # Errors
///
/// What `mmap(2)` reports: `ENOMEM` when the address space, the number of mappings or, under
/// `vm.overcommit_memory = 2`, the commit limit is used up.
pub(super) fn map(len: usize) -> io::Result<NonZeroUsize> {
    // MAP_NORESERVE keeps untouched stacks out of the overcommit heuristic. MAP_STACK means "no huge pages"
    // since Linux 6.7 and nothing before, for which the madvise below stands in.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice changes no memory that anyone uses.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // One touched byte must cost one page, not 2 MiB. A kernel built without huge pages refuses the advice
    // and needs none, so the result is of no interest.
    // SAFETY: the range is the mapping just made; the advice changes no content.
    unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
    NonZeroUsize::new(start.expose_provenance()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Gives address space back.
///
/// # Safety
///
/// The range was made by [`map`], and nothing in it is used any more.
pub(super) unsafe fn unmap(range: Range<usize>) {
    // SAFETY: by the caller's word nobody uses the range. Failure (which whole pages of one mapping exclude
    // but for the kernel's own lack of memory) leaves it mapped: a leak, nothing worse.
    unsafe { libc::munmap(at(range.start), range.len()) };
}

/// Makes every access to the range fault, without splitting the mapping. The guard survives [`discard`] and
/// `fork`.
///
/// # Errors
///
/// `EINVAL` where the kernel has no such guards (before 6.13) or the memory is locked (`mlockall`).
///
/// # Safety
///
/// The range lies in a mapping made by [`map`] and holds nothing in use.
pub(super) unsafe fn guard_light(range: Range<usize>) -> io::Result<()> {
    // SAFETY: by the caller's word nothing in use becomes inaccessible.
    check(unsafe { libc::madvise(at(range.start), range.len(), MADV_GUARD_INSTALL) })
}

/// Makes guards as [`guard_light`] does in a row of ranges: `count` of them, but no more than [`ROW`], of which each
/// next one begins `step` above the one before. One system call: 0.4 us a guard and not 0.7. Returns how many it made,
/// from the first on; none where the kernel has no such call, or an older one.
///
/// # Safety
///
/// As for [`guard_light`], for each of the ranges.
pub(super) unsafe fn guards_light(first: Range<usize>, step: usize, count: usize) -> usize {
    let mut ranges = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; ROW];
    let count = count.min(ROW);
    for (index, range) in ranges[..count].iter_mut().enumerate() {
        *range = libc::iovec { iov_base: at(first.start + index * step), iov_len: first.len() };
    }
    // SAFETY: by the caller's word nothing in use becomes inaccessible; the kernel reads `count` of the ranges.
    let bytes = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF_THREAD,
            ranges.as_ptr(),
            count,
            MADV_GUARD_INSTALL,
            0_usize,
        )
    };
    usize::try_from(bytes).unwrap_or(0) / first.len()
}

/// Makes every access to the range fault by taking its permissions away, which splits the mapping in two.
///
/// # Errors
///
/// `ENOMEM` when the process has as many mappings as it may have.
///
/// # Safety
///
/// As for [`guard_light`].
pub(super) unsafe fn guard_by_permission(range: Range<usize>) -> io::Result<()> {
    // SAFETY: by the caller's word nothing in use becomes inaccessible.
    check(unsafe { libc::mprotect(at(range.start), range.len(), libc::PROT_NONE) })
}

/// The lowest page of the range that occupies memory. A guard counts as if it did, so leave it out.
///
/// # Errors
///
/// What `mincore(2)` reports: `ENOMEM` when part of the range is not mapped.
pub(super) fn lowest_resident(range: Range<usize>) -> io::Result<Option<usize>> {
    // One answer for each page; 2 MiB of stack in one call, since the caller may itself stand on a small one.
    let mut answers = [0_u8; 512];
    let page = page_size();
    for start in range.clone().step_by(answers.len() * page) {
        let len = (range.end - start).min(answers.len() * page);
        // SAFETY: the call writes one byte for each page of `len`, of which there are no more than answers;
        // of the memory in question it reads nothing.
        check(unsafe { libc::mincore(at(start), len, answers.as_mut_ptr()) })?;
        if let Some(index) = answers[..len / page].iter().position(|answer| answer & 1 == 1) {
            return Ok(Some(start + index * page));
        }
    }
    Ok(None)
}

/// Gives the memory of the range back to the system. It reads as zeroes afterwards; guards in it stay guards.
///
/// # Errors
///
/// What `madvise(2)` reports: `EINVAL` when the memory is locked (`mlockall`).
///
/// # Safety
///
/// The range lies in a mapping made by [`map`], and nothing needs its content.
pub(super) unsafe fn discard(range: Range<usize>) -> io::Result<()> {
    // SAFETY: by the caller's word nobody misses the content. (MADV_FREE would leave it counted as resident
    // until memory is short, which misleads those who recycle workers by their size.)
    check(unsafe { libc::madvise(at(range.start), range.len(), libc::MADV_DONTNEED) })
}

/// The place of the calling thread's `errno`.
pub(crate) fn errno() -> *mut c_int {
    // SAFETY: the call has no conditions, and is what the C macro expands to.
    unsafe { libc::__errno_location() }
}

/// The number of mappings a process may have, where the system tells.
pub(super) fn mapping_limit() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// The address as the pointer that system calls take.
fn at(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

/// The result of a system call which returns 0 or sets `errno`.
fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
