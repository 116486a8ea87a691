//! select and pselect.

use std::os::fd::RawFd;
use std::time::Duration;

use greenlet::foreign::Interest;
use libc::{c_int, c_ulong, fd_set, sigset_t, timespec, timeval};

use super::{List, SIGNALS, mask_pointer, pointer, wait};
use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::raw::{self, syscall};
use crate::time::{duration, timespec_of};

/// select(2). What is left of the timeout is written to it.
///
/// # Safety
/// As select(2): each pointer is null or valid, the sets for `count` descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    let entered = gate::enter(Call::select);
    // SAFETY: the caller's promise.
    let given = unsafe { timeout.as_ref() }.map(|time| (time.tv_sec, time.tv_usec));
    // As libc and Linux have it, there may be more than a second of microseconds.
    let time = match given {
        None => None,
        Some((seconds, micros)) if seconds >= 0 && micros >= 0 => {
            Some(Duration::from_secs(seconds as u64).saturating_add(Duration::from_micros(micros as u64)))
        }
        Some(_) => {
            drop(entered);
            raw::set_errno(libc::EINVAL);
            return -1;
        }
    };
    let begin = monotonic();
    // SAFETY: the caller's promise.
    let result = unsafe { select_with(entered, count, [read, write, except], time, None) };
    // SAFETY: the caller's promise. A timeout in memory that cannot be written is none that Linux could take, either.
    if let (Some(time), Some(timeout)) = (time, unsafe { timeout.as_mut() }) {
        // Of what is over nothing is left, whatever clock the hub goes by.
        let left = match result {
            0 => Duration::ZERO,
            _ => time.saturating_sub(monotonic().saturating_sub(begin)),
        };
        timeout.tv_sec = left.as_secs().try_into().unwrap_or(i64::MAX);
        timeout.tv_usec = left.subsec_micros().into();
    }
    result
}

/// [`select`] by the other name that libc has for it.
///
/// # Safety
/// As [`select`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { select(count, read, write, except, timeout) }
}

/// pselect(2). The timeout stays as it is.
///
/// # Safety
/// As pselect(2): each pointer is null or valid, the sets for `count` descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let entered = gate::enter(Call::pselect);
    // SAFETY: the caller's promise.
    let timeout = match unsafe { timeout.as_ref() }.map(|time| duration(time).ok_or(())) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(())) => {
            drop(entered);
            raw::set_errno(libc::EINVAL);
            return -1;
        }
    };
    // SAFETY: the caller's promise.
    unsafe { select_with(entered, count, [read, write, except], timeout, mask.as_ref()) }
}

/// # Safety
/// Each of the sets is null or has room for `count` descriptors.
unsafe fn select_with(
    entered: Option<Entered>,
    count: c_int,
    sets: [*mut fd_set; 3],
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> c_int {
    // SAFETY: the caller's promise.
    let plain = |timeout| unsafe { ask_select(count, sets.map(<*mut fd_set>::cast), timeout, mask) };
    let Some(call) = entered else { return raw::result(plain(timeout)) as c_int };
    let Ok(bits) = usize::try_from(count) else {
        drop(call);
        return raw::result(plain(timeout)) as c_int;
    };
    let words = looked_at(bits).div_ceil(c_ulong::BITS as usize);
    // The kernel overwrites the sets with what it found, and they are asked of it again and again.
    let mut memory = Memory::new(3 * words);
    let (asked, found) = memory.halves();
    for (index, set) in sets.iter().enumerate().filter(|(_, set)| !set.is_null()) {
        // SAFETY: the set has that many words, which `asked` has for each of the three.
        unsafe {
            std::ptr::copy_nonoverlapping(set.cast::<c_ulong>(), asked[index * words..].as_mut_ptr(), words);
        }
    }
    let asked = &*asked;
    let ask = |timeout| {
        found.copy_from_slice(asked);
        let mut index = 0;
        let places = sets.map(|set| {
            let place = found[index * words..].as_mut_ptr();
            index += 1;
            if set.is_null() { std::ptr::null_mut() } else { place }
        });
        // SAFETY: room for as many descriptors as the kernel looks at.
        let kernels = unsafe { ask_select(count.min(bits_of(words)), places, timeout, mask) };
        if kernels >= 0 {
            for (set, place) in sets.iter().zip(places).filter(|(set, _)| !set.is_null()) {
                // SAFETY: as when it was copied from there.
                unsafe { std::ptr::copy_nonoverlapping(place, set.cast(), words) };
            }
        }
        kernels
    };
    wait(call, libc::ECANCELED, timeout, mask, || selected(asked, words, bits), ask) as c_int
}

fn bits_of(words: usize) -> c_int {
    c_int::try_from(words * c_ulong::BITS as usize).unwrap_or(c_int::MAX)
}

/// # Safety
/// Each of the sets is null or has room for as many descriptors as the kernel looks at.
unsafe fn ask_select(
    count: c_int,
    sets: [*mut c_ulong; 3],
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> isize {
    let timeout = timeout.map(timespec_of);
    let mask: [usize; 2] = [mask_pointer(mask).addr(), SIGNALS];
    // SAFETY: the caller's promise; the timeout is a copy, to which the kernel may write.
    unsafe { syscall!(SYS_pselect6, count, sets[0], sets[1], sets[2], pointer(&timeout), &raw const mask) }
}

/// What select is asked to wait for.
fn selected(asked: &[c_ulong], words: usize, bits: usize) -> List {
    let is_set = |set: usize, fd: usize| {
        asked[set * words + fd / c_ulong::BITS as usize] >> (fd % c_ulong::BITS as usize) & 1 == 1
    };
    let all = 0..bits.min(words * c_ulong::BITS as usize);
    let asked = all.map(|fd| {
        let interest = Interest {
            read: is_set(0, fd),
            write: is_set(1, fd),
            exceptional: is_set(2, fd),
            half_closed: false,
        };
        (fd as RawFd, interest)
    });
    asked.filter(|(_, interest)| *interest != Interest::default()).collect()
}

/// How many of `count` descriptors the kernel looks at: no more than its table of them has room for. Programs call with what
/// `getdtablesize` says, and sets that are smaller.
fn looked_at(count: usize) -> usize {
    match count {
        0..=libc::FD_SETSIZE => count,
        _ => count.min(table_size().unwrap_or(count)),
    }
}

/// The size of the process's table of descriptors.
#[cold]
fn table_size() -> Option<usize> {
    let mut text = [0u8; 4096];
    // SAFETY: the name is a C string; the buffer has the room that is said; the descriptor is ours.
    let length = unsafe {
        let name = c"/proc/thread-self/status".as_ptr();
        let fd = syscall!(SYS_openat, libc::AT_FDCWD, name, libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let length = syscall!(SYS_read, fd, text.as_mut_ptr(), text.len());
        syscall!(SYS_close, fd);
        usize::try_from(length).ok()?
    };
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("FDSize:"))?.trim().parse().ok()
}

/// Room for the sets, on the stack if they are of the usual size.
struct Memory {
    small: [c_ulong; 96],
    large: Vec<c_ulong>,
    each: usize,
}

impl Memory {
    fn new(each: usize) -> Memory {
        let small = [0; 96];
        let large = if 2 * each > small.len() { vec![0; 2 * each] } else { Vec::new() };
        Memory { small, large, each }
    }

    fn halves(&mut self) -> (&mut [c_ulong], &mut [c_ulong]) {
        let all = if self.large.is_empty() { &mut self.small[..] } else { &mut self.large[..] };
        all[..2 * self.each].split_at_mut(self.each)
    }
}

fn monotonic() -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for the answer. This never waits, and is not interposed.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    duration(&time).unwrap_or_default()
}
