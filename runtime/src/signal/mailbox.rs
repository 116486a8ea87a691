//! What the kernel calls, and what it may touch: a list of mailboxes that only grows.
//!
//! Each hub that has handlers has a mailbox: a word of the signals it wants, a word of those that have arrived, and an
//! eventfd that wakes it. A signal handler walks the list, which needs no lock, since mailboxes are never freed: one that
//! is given back waits for the next hub, its descriptor with it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::Signal;

/// One hub's.
pub(super) struct Mailbox {
    /// Its number never changes, so that a signal handler may use it at any time.
    fd: OwnedFd,
    taken: AtomicBool,
    wanted: AtomicU64,
    arrived: AtomicU64,
    next: AtomicPtr<Mailbox>,
}

/// The list's head.
static MAILBOXES: AtomicPtr<Mailbox> = AtomicPtr::new(ptr::null_mut());

fn mailboxes() -> impl Iterator<Item = &'static Mailbox> {
    let mut next = MAILBOXES.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or a mailbox that was leaked before it came into the list.
        let mailbox: &'static Mailbox = unsafe { next.as_ref() }?;
        next = mailbox.next.load(Ordering::Acquire);
        Some(mailbox)
    })
}

impl Mailbox {
    /// One that nobody has.
    ///
    /// # Errors
    /// The kernel's: too many open files.
    pub(super) fn take() -> io::Result<&'static Mailbox> {
        if let Some(mailbox) = mailboxes().find(|mailbox| !mailbox.taken.swap(true, Ordering::SeqCst)) {
            return Ok(mailbox);
        }
        let mailbox: &'static mut Mailbox = Box::leak(Box::new(Mailbox {
            fd: new_eventfd()?,
            taken: AtomicBool::new(true),
            wanted: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            next: AtomicPtr::new(MAILBOXES.load(Ordering::Acquire)),
        }));
        let this = ptr::from_mut(mailbox);
        // SAFETY: it was leaked just now; from here on there are only shared references to it.
        let mailbox: &'static Mailbox = unsafe { &*this };
        loop {
            let next = mailbox.next.load(Ordering::Acquire);
            match MAILBOXES.compare_exchange(next, this, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(mailbox),
                Err(other) => mailbox.next.store(other, Ordering::Release),
            }
        }
    }

    /// For the next hub.
    pub(super) fn give_back(&self) {
        self.wanted.store(0, Ordering::SeqCst);
        self.collect();
        self.taken.store(false, Ordering::SeqCst);
    }

    pub(super) fn want(&self, signal: Signal) {
        self.wanted.fetch_or(signal.bit(), Ordering::SeqCst);
    }

    pub(super) fn want_no_more(&self, signal: Signal) {
        self.wanted.fetch_and(!signal.bit(), Ordering::SeqCst);
    }

    /// The set of what has arrived.
    pub(super) fn collect(&self) -> u64 {
        // The descriptor first: what arrives after that raises it again. It fails only if it was not raised.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.arrived.swap(0, Ordering::SeqCst)
    }

    /// A signal has arrived. Called in a signal handler.
    fn put(&self, signal: u64) {
        if self.wanted.load(Ordering::SeqCst) & signal != 0 {
            self.arrived.fetch_or(signal, Ordering::SeqCst);
            self.raise();
        }
    }

    fn raise(&self) {
        // It fails only if it is raised to the utmost.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn new_eventfd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// What the kernel is to do with each signal.
pub(super) struct Dispositions {
    /// For each signal that is ours: how many want it, and what was there before.
    ours: [Option<(usize, libc::sigaction)>; 65],
}

static DISPOSITIONS: Mutex<Dispositions> = Mutex::new(Dispositions { ours: [None; 65] });

/// The functions that were there before, as far as there were any, and whether each takes three arguments.
static EARLIER: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];
static EARLIER_TAKES_THREE: [AtomicBool; 65] = [const { AtomicBool::new(false) }; 65];

impl Dispositions {
    pub(super) fn lock() -> MutexGuard<'static, Dispositions> {
        // No code of others runs under the lock.
        DISPOSITIONS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more wants the signal.
    pub(super) fn acquire(&mut self, signal: Signal) -> io::Result<()> {
        let number = signal.as_raw() as usize;
        if let Some((count, _)) = &mut self.ours[number] {
            *count += 1;
            return Ok(());
        }
        let before = exchange(signal, None)?;
        let is_function = !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        EARLIER_TAKES_THREE[number].store(before.sa_flags & libc::SA_SIGINFO != 0, Ordering::SeqCst);
        EARLIER[number].store(if is_function { before.sa_sigaction } else { 0 }, Ordering::SeqCst);
        // SAFETY: integers and, on some systems, a nullable pointer to a function: zeros are valid.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = handler as *const () as usize;
        // On the alternate stack: a greenlet's own may have no room for what the kernel pushes.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        exchange(signal, Some(&ours))?;
        self.ours[number] = Some((1, before));
        Ok(())
    }

    /// One less wants the signal. What was there before comes back with the last.
    pub(super) fn release(&mut self, signal: Signal) {
        let number = signal.as_raw() as usize;
        match &mut self.ours[number] {
            Some((1, _)) => self.restore(signal),
            Some((count, _)) => *count -= 1,
            None => {}
        }
    }

    fn restore(&mut self, signal: Signal) {
        let Some((_, before)) = self.ours[signal.as_raw() as usize].take() else { return };
        let is_ours =
            exchange(signal, None).is_ok_and(|current| current.sa_sigaction == handler as *const () as usize);
        // Somebody who has put something else there since meant it.
        if is_ours {
            // It has been accepted for this signal before.
            let _ = exchange(signal, Some(&before));
        }
    }

    /// In a child of fork: of all hubs, that with `mine` is left, and wants each of `signals` as often as it is named.
    pub(super) fn keep_only(
        &mut self,
        mine: Option<&'static Mailbox>,
        signals: impl Iterator<Item = Signal>,
    ) -> io::Result<()> {
        for mailbox in mailboxes() {
            // The parent has the eventfd, too. Its number gets another, which nobody else has.
            let new = new_eventfd()?;
            // SAFETY: both descriptors are open. The second is only ever used by its number, as an eventfd, which it
            // is before and after.
            if unsafe { libc::dup3(new.as_raw_fd(), mailbox.fd.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
                return Err(io::Error::last_os_error());
            }
            match mine {
                Some(mine) if ptr::eq(mine, mailbox) => mailbox.raise(),
                _ => mailbox.give_back(),
            }
        }
        let mut counts = [0; 65];
        signals.for_each(|signal| counts[signal.as_raw() as usize] += 1);
        for signal in Signal::in_set(u64::MAX) {
            match (counts[signal.as_raw() as usize], &mut self.ours[signal.as_raw() as usize]) {
                (0, Some(_)) => self.restore(signal),
                (wanted, Some((count, _))) => *count = wanted,
                (_, None) => {}
            }
        }
        Ok(())
    }
}

/// Sets what is to be done at a signal, if anything new is given; returns what was done before.
fn exchange(signal: Signal, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: as in `acquire`.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or points to a live structure whose function is either async-signal-safe (`handler`) or
    // was in force before; `old` is ours to be written.
    match unsafe { libc::sigaction(signal.as_raw(), new, &mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel calls. It reads and sets atomics and writes to descriptors, nothing else; `errno` stays as it was.
extern "C" fn handler(number: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the address of this thread's errno is valid for as long as the thread.
    let errno = unsafe { *libc::__errno_location() };
    if let Some(signal) = Signal::from_raw(number) {
        let earlier = EARLIER[number as usize].load(Ordering::SeqCst);
        if earlier != 0 && EARLIER_TAKES_THREE[number as usize].load(Ordering::SeqCst) {
            // SAFETY: it was this signal's handler, with SA_SIGINFO, and is called as the kernel would.
            let earlier: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(earlier) };
            earlier(number, info, context);
        } else if earlier != 0 {
            // SAFETY: it was this signal's handler, without SA_SIGINFO, and is called as the kernel would.
            let earlier: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(earlier) };
            earlier(number);
        }
        mailboxes().for_each(|mailbox| mailbox.put(signal.bit()));
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}
