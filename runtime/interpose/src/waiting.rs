//! Waiting for descriptors: poll, select and epoll.
//!
//! Each call first asks the kernel what there is without waiting, parks the greenlet until a descriptor may have something,
//! and asks again; so what it gives is what the kernel says, for descriptors of any kind. An epoll descriptor is itself one that
//! can be waited for: whole event loops can be guests, several of them on one thread, and several greenlets may wait at one of
//! them as several threads may.
//!
//! What differs from the plain calls while a greenlet is parked:
//! - A signal handler does not end the wait with `EINTR`, for it interrupts the hub and no greenlet. The forms with a signal mask
//!   are made for that and do end: a signal that the mask lets through, and that the thread otherwise holds back, is
//!   delivered in the call, which then fails with `EINTR`. What a mask holds back beyond the thread's own
//!   mask is not held back: the thread goes on running others.
//! - A descriptor that is closed on this thread meanwhile is seen to be closed: `POLLNVAL` or `EBADF`, where Linux waits on.
//! - A kill or the end of a timeout ends it with `ECANCELED`, once.
//! - `select` gives the descriptors' sets as they are when it ends, and of its timeout what is left, as Linux does.

use std::os::fd::RawFd;
use std::time::Duration;

use greenlet::foreign::{self, Deadline, Interest, Woken};
use libc::{c_int, c_ulong, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};

use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::raw::{self, syscall};
use crate::real::real;
use crate::time::{duration, timespec_of};

/// What the kernel takes for the size of its own sets of signals.
const SIGNALS: usize = 8;

/// poll(2).
///
/// # Safety
/// As poll(2): there are `count` entries at `fds`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, milliseconds: c_int) -> c_int {
    let timeout = of_milliseconds(milliseconds);
    // SAFETY: the caller's promise.
    let ask = |timeout| unsafe { ask_poll(fds, count, timeout, None) };
    let Some(call) = gate::enter(Call::poll) else { return raw::result(ask(timeout)) as c_int };
    // SAFETY: the caller's promise.
    let descriptors = || unsafe { polled(fds, count) };
    wait(call, timeout, None, descriptors, ask) as c_int
}

/// [`poll`] by the other name that libc has for it.
///
/// # Safety
/// As [`poll`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll(fds: *mut pollfd, count: nfds_t, milliseconds: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { poll(fds, count, milliseconds) }
}

/// [`poll`] as C code calls it that is compiled with `_FORTIFY_SOURCE`; `bytes` is how large the array is.
///
/// # Safety
/// As [`poll`]; it ends the program if the array is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    milliseconds: c_int,
    bytes: size_t,
) -> c_int {
    if fit(count, bytes) {
        // SAFETY: the caller's promise.
        return unsafe { poll(fds, count, milliseconds) };
    }
    let real = real!(fn __poll_chk(*mut pollfd, nfds_t, c_int, size_t) -> c_int);
    // SAFETY: it says what is wrong, and aborts.
    unsafe { real(fds, count, milliseconds, bytes) }
}

/// ppoll(2).
///
/// # Safety
/// As ppoll(2): there are `count` entries at `fds`, the other pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let entered = gate::enter(Call::ppoll);
    // SAFETY: the caller's promise.
    let timeout = match unsafe { timeout.as_ref() }.map(|time| duration(time).ok_or(*time)) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        // The kernel says what is wrong with it.
        Some(Err(wrong)) => {
            drop(entered);
            // SAFETY: the caller's promise, but for the timeout, which is a copy.
            let kernels = unsafe { syscall!(SYS_ppoll, fds, count, &raw const wrong, mask, SIGNALS) };
            return raw::result(kernels) as c_int;
        }
    };
    // SAFETY: the caller's promise.
    let (ask, mask) =
        (|timeout| unsafe { ask_poll(fds, count, timeout, mask.as_ref()) }, unsafe { mask.as_ref() });
    let Some(call) = entered else { return raw::result(ask(timeout)) as c_int };
    // SAFETY: the caller's promise.
    let descriptors = || unsafe { polled(fds, count) };
    wait(call, timeout, mask, descriptors, ask) as c_int
}

/// [`ppoll`] as C code calls it that is compiled with `_FORTIFY_SOURCE`; `bytes` is how large the array is.
///
/// # Safety
/// As [`ppoll`]; it ends the program if the array is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    bytes: size_t,
) -> c_int {
    if fit(count, bytes) {
        // SAFETY: the caller's promise.
        return unsafe { ppoll(fds, count, timeout, mask) };
    }
    let real = real!(fn __ppoll_chk(*mut pollfd, nfds_t, *const timespec, *const sigset_t, size_t) -> c_int);
    // SAFETY: it says what is wrong, and aborts.
    unsafe { real(fds, count, timeout, mask, bytes) }
}

fn fit(count: nfds_t, bytes: size_t) -> bool {
    bytes / size_of::<pollfd>() >= count as usize
}

/// # Safety
/// There are `count` entries at `fds`.
unsafe fn ask_poll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> isize {
    let timeout = timeout.map(timespec_of);
    // SAFETY: the caller's promise; the timeout is a copy, to which the kernel may write.
    unsafe { syscall!(SYS_ppoll, fds, count, pointer(&timeout), mask_pointer(mask), SIGNALS) }
}

/// What poll is asked to wait for.
///
/// # Safety
/// There are `count` entries at `fds`.
unsafe fn polled(fds: *const pollfd, count: nfds_t) -> List {
    if count == 0 {
        return List::default();
    }
    // SAFETY: the caller's promise.
    let fds = unsafe { std::slice::from_raw_parts(fds, count as usize) };
    fds.iter().filter(|entry| entry.fd >= 0).map(|entry| (entry.fd, interest(entry.events))).collect()
}

fn interest(events: libc::c_short) -> Interest {
    let any = |bits| events & bits != 0;
    Interest {
        read: any(libc::POLLIN | libc::POLLRDNORM),
        write: any(libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND),
        exceptional: any(libc::POLLPRI | libc::POLLRDBAND),
        half_closed: any(libc::POLLRDHUP),
    }
}

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
    wait(call, timeout, mask, || selected(asked, words, bits), ask) as c_int
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

/// epoll_wait(2).
///
/// # Safety
/// As epoll_wait(2): there is room for `count` events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    milliseconds: c_int,
) -> c_int {
    let entered = gate::enter(Call::epoll_wait);
    // SAFETY: the caller's promise.
    unsafe { epoll_with(entered, epoll, events, count, of_milliseconds(milliseconds), None) }
}

/// epoll_pwait(2).
///
/// # Safety
/// As epoll_pwait(2): there is room for `count` events, and the mask is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    milliseconds: c_int,
    mask: *const sigset_t,
) -> c_int {
    let entered = gate::enter(Call::epoll_pwait);
    // SAFETY: the caller's promise.
    unsafe { epoll_with(entered, epoll, events, count, of_milliseconds(milliseconds), mask.as_ref()) }
}

/// epoll_pwait2(2).
///
/// # Safety
/// As epoll_pwait2(2): there is room for `count` events, and the other pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let plain = || {
        // SAFETY: the caller's promise.
        let kernels = unsafe { syscall!(SYS_epoll_pwait2, epoll, events, count, timeout, mask, SIGNALS) };
        raw::result(kernels) as c_int
    };
    let Some(call) = gate::enter(Call::epoll_pwait2) else { return plain() };
    // SAFETY: the caller's promise.
    let timeout = match unsafe { timeout.as_ref() }.map(|time| duration(time).ok_or(())) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(())) => {
            drop(call);
            return plain();
        }
    };
    // SAFETY: the caller's promise.
    unsafe { epoll_with(Some(call), epoll, events, count, timeout, mask.as_ref()) }
}

/// # Safety
/// There is room for `count` events.
unsafe fn epoll_with(
    entered: Option<Entered>,
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> c_int {
    let ask = |timeout: Option<Duration>| {
        // Rounded up, so that it is not over too early.
        let milliseconds = timeout
            .map_or(-1, |time| c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX));
        // SAFETY: the caller's promise.
        unsafe { syscall!(SYS_epoll_pwait, epoll, events, count, milliseconds, mask_pointer(mask), SIGNALS) }
    };
    let Some(call) = entered else { return raw::result(ask(timeout)) as c_int };
    let look = |timeout: Option<Duration>| {
        let found = ask(timeout);
        match mask {
            // Without waiting, this call alone would not deliver a signal.
            Some(mask) if found == 0 && timeout == Some(Duration::ZERO) => deliver(mask),
            _ => found,
        }
    };
    wait(call, timeout, mask, || List::from_iter([(epoll, Interest::READ)]), look) as c_int
}

/// Lets the signals through that a mask lets through; gives the error if there was one, or 0.
fn deliver(mask: &sigset_t) -> isize {
    // SAFETY: it waits for nothing, for no time.
    unsafe { ask_poll(std::ptr::null_mut(), 0, Some(Duration::ZERO), Some(mask)) }
}

/// The one way in which all of them wait: `ask` is the call with another timeout, `descriptors` what it is asked to wait for.
fn wait(
    call: Entered,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
    descriptors: impl FnOnce() -> List,
    mut ask: impl FnMut(Option<Duration>) -> isize,
) -> isize {
    let found = ask(Some(Duration::ZERO));
    if found != 0 || timeout == Some(Duration::ZERO) {
        foreign::count_call();
        return call.result(found);
    }
    let deadline = timeout.and_then(foreign::deadline);
    let mut descriptors = descriptors();
    let signals = mask.and_then(Signals::let_through_by);
    signals.iter().for_each(|signals| descriptors.push((signals.0, Interest::READ)));
    let mut in_vain = 0;
    loop {
        let woken = match park(descriptors.all(), deadline) {
            // It was closed: what that means is the kernel's to say.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Woken::Event,
            // The kernel cannot watch them (too many descriptors, too deep a nest of epolls): look from time to time.
            Err(_) => nap(deadline, &mut in_vain),
            // Something stays ready that was not asked for, such as the end of a connection whose urgent data are waited for.
            Ok(Woken::Event) if in_vain > 16 => nap(deadline, &mut in_vain),
            Ok(woken) => woken,
        };
        let found = match woken {
            Woken::Event => ask(Some(Duration::ZERO)),
            Woken::Deadline => return call.result(ask(Some(Duration::ZERO))),
            Woken::Interrupted => return call.fail(libc::ECANCELED),
            Woken::Refused => {
                let left = timeout.map(|timeout| deadline.map_or(timeout, Deadline::left));
                return call.result(ask(left));
            }
        };
        if found != 0 {
            return call.result(found);
        }
        in_vain += 1;
    }
}

fn park(descriptors: &[(RawFd, Interest)], deadline: Option<Deadline>) -> std::io::Result<Woken> {
    match *descriptors {
        [] => Ok(foreign::sleep(deadline)),
        [(fd, Interest::READ)] => foreign::wait_readable(fd, deadline),
        [(fd, Interest::WRITE)] => foreign::wait_writable(fd, deadline),
        _ => foreign::wait_any(descriptors, deadline),
    }
}

/// Parks for a moment, longer each time; its end is an `Event`, unless it is the `deadline`.
fn nap(deadline: Option<Deadline>, in_vain: &mut u32) -> Woken {
    *in_vain = (*in_vain).max(16) + 1;
    let moment = Duration::from_millis(1 << (*in_vain - 17).min(4));
    let last = deadline.is_some_and(|deadline| deadline.left() <= moment);
    match foreign::sleep(if last { deadline } else { foreign::deadline(moment) }) {
        Woken::Deadline if !last => Woken::Event,
        woken => woken,
    }
}

/// What is waited for; a few of them take no memory of their own.
#[derive(Default)]
struct List {
    few: [(RawFd, Interest); 4],
    count: usize,
    /// All of them, if they are more.
    many: Vec<(RawFd, Interest)>,
}

impl List {
    fn push(&mut self, one: (RawFd, Interest)) {
        match self.few.get_mut(self.count) {
            Some(place) => *place = one,
            None => {
                if self.many.is_empty() {
                    self.many.extend(self.few);
                }
                self.many.push(one);
            }
        }
        self.count += 1;
    }

    fn all(&self) -> &[(RawFd, Interest)] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }
}

impl FromIterator<(RawFd, Interest)> for List {
    fn from_iter<I: IntoIterator<Item = (RawFd, Interest)>>(all: I) -> List {
        let mut list = List::default();
        all.into_iter().for_each(|one| list.push(one));
        list
    }
}

/// A descriptor that is readable while a signal is pending which the thread holds back and a mask lets through.
struct Signals(RawFd);

impl Signals {
    fn let_through_by(mask: &sigset_t) -> Option<Signals> {
        let mut held: u64 = 0;
        // SAFETY: the kernel's set of signals has 64 bits, and libc's begins with them.
        let (result, mask) = unsafe {
            let result = syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut held, SIGNALS);
            (result, std::ptr::from_ref(mask).cast::<u64>().read_unaligned())
        };
        let let_through = held & !mask;
        if result < 0 || let_through == 0 {
            return None;
        }
        // SAFETY: the set lives as long as the call.
        let fd = unsafe {
            syscall!(
                SYS_signalfd4,
                -1isize,
                &raw const let_through,
                SIGNALS,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK
            )
        };
        // Without one it is as with a signal that comes while a greenlet is parked.
        (fd >= 0).then_some(Signals(fd as RawFd))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        foreign::closing(self.0);
        // SAFETY: the descriptor is ours.
        unsafe { syscall!(SYS_close, self.0) };
    }
}

fn of_milliseconds(milliseconds: c_int) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

fn pointer(timeout: &Option<timespec>) -> *const timespec {
    timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref)
}

fn mask_pointer(mask: Option<&sigset_t>) -> *const sigset_t {
    mask.map_or(std::ptr::null(), std::ptr::from_ref)
}

fn monotonic() -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for the answer. This never waits, and is not interposed.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    duration(&time).unwrap_or_default()
}
