//! [`std::thread::park`], when several greenlets of one thread are in it, and whatever else belongs to a thread.
//!
//! std has one word for each thread: `EMPTY`, `PARKED` or `NOTIFIED`. `park` takes one from it: from `NOTIFIED` it returns,
//! from `EMPTY` it waits while the word is `PARKED`, and any other value would have it spin, without a call that could be
//! seen here. `unpark` stores `NOTIFIED`, and makes a call only if it was `PARKED`. So:
//! - While greenlets run the word is not `PARKED`, so that the next one can enter `park`. The hub makes it
//!   `PARKED` when it goes to sleep, so that whoever unparks the thread wakes it, and [looks](look) at it when it looks at
//!   its descriptors.
//! - Who waits for a [channel](crate::channel) has a record that says when it is over, and is called then.
//! - Of all others nobody knows for whom of the thread an `unpark` was: all return, as they may (`park` may return without a
//!   reason). Who returns from `park` takes `NOTIFIED` out of the word, and so may another's `unpark` be taken that came in
//!   that moment; and who enters takes what was meant for those inside. So once a second greenlet was seen, nobody's wait
//!   is for longer than a [while](Thread::patience). A thread on which only one greenlet (main, most often) uses `park` has
//!   none of this.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use greenlet::foreign::{self, Deadline, Look};

use crate::channel::Anonymous;
use crate::lot::{self, Wait, Waited};

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
pub(crate) const PARKED: u32 = u32::MAX;

/// How soon who shares a thread's word looks again after something has happened…
const SOON: Duration = Duration::from_millis(1);
/// …and how often if nothing happens for long.
const SELDOM: Duration = Duration::from_millis(250);

/// What is known of this thread.
struct Thread {
    /// The address of std's word, if it is known.
    word: Cell<usize>,
    /// The word that is asked for, if it is std's; `FOUND` if it was.
    asked: Cell<usize>,
    /// Which greenlet uses the word: nobody yet, one by its number, or several.
    users: Cell<Users>,
    /// How many wait.
    waiting: Cell<usize>,
    /// How many of them have no record.
    listening: Cell<usize>,
    /// Those who have one.
    selectable: Cell<*const Selectable>,
    /// An `unpark` was taken when nobody waited for one.
    owed: Cell<bool>,
    /// How often all have been called.
    rounds: Cell<u64>,
    /// How many were sent back though nothing had happened, and have not come again.
    sent_back: Cell<usize>,
    /// When something last happened.
    since: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Users {
    Nobody,
    One(Option<u64>),
    Several,
}

const FOUND: usize = usize::MAX;
/// The bits by which those are called who have no record.
const LISTENING: u32 = 1;

thread_local! {
    static THREAD: Thread = const {
        Thread {
            word: Cell::new(0),
            asked: Cell::new(0),
            users: Cell::new(Users::Nobody),
            waiting: Cell::new(0),
            listening: Cell::new(0),
            selectable: Cell::new(std::ptr::null()),
            owed: Cell::new(false),
            rounds: Cell::new(0),
            sent_back: Cell::new(0),
            since: Cell::new(None),
        }
    };
}

/// Whether that is the word by which std parks this thread. It holds `PARKED`.
pub(crate) fn is_stds(address: usize) -> bool {
    THREAD.with(|thread| match thread.word.get() {
        0 => thread.ask(address),
        word => word == address,
    })
}

/// Whether it is this wake-up that [`is_stds`] waits for.
#[inline]
pub(crate) fn is_asked_for(address: usize) -> bool {
    THREAD.with(|thread| {
        let asked = thread.asked.get() == address;
        if asked {
            thread.asked.set(FOUND);
        }
        asked
    })
}

/// The thread itself has waited for that word, and may have taken what was meant for greenlets of it.
pub(crate) fn thread_was_blocked(address: usize) {
    THREAD.with(|thread| {
        if thread.word.get() == address && thread.waiting.get() > 0 {
            thread.told();
        }
    });
}

/// Parks the greenlet in place of the thread. It returns to std's code, which is about to look at the word.
pub(crate) fn wait(word: &AtomicU32, deadline: Option<Deadline>) -> Waited {
    THREAD.with(|thread| thread.wait(word, deadline))
}

/// Looks whether somebody has unparked the thread; before the hub sleeps it has that told.
fn look(look: Look) {
    THREAD.with(|thread| {
        if thread.waiting.get() == 0 {
            return;
        }
        // SAFETY: it is this thread's, and greenlets of it are in `park`, with it.
        let word = unsafe { &*(thread.word.get() as *const AtomicU32) };
        let (from, to) = match look {
            Look::BeforeSleep => (EMPTY, PARKED),
            Look::Awake => (PARKED, EMPTY),
        };
        while word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst) == Err(NOTIFIED) {
            word.store(EMPTY, Ordering::SeqCst);
            thread.told();
            if look == Look::Awake {
                break;
            }
        }
        // After that: who is selected later finds the word as it is now.
        thread.call_selected();
    });
}

/// One who waits for a channel, in the list of its thread; lies on its stack.
struct Selectable {
    record: Anonymous,
    next: Cell<*const Selectable>,
}

impl Thread {
    /// Has std unpark this thread, who is in `park` if it is its word: then that makes a call for it. The one who waits returns
    /// this once for no reason, if there was none.
    #[cold]
    fn ask(&self, address: usize) -> bool {
        self.asked.set(address);
        std::thread::current().unpark();
        let found = self.asked.take() == FOUND;
        if found {
            self.word.set(address);
            foreign::on_look(Some(look));
        }
        found
    }

    fn wait(&self, word: &AtomicU32, deadline: Option<Deadline>) -> Waited {
        self.note_user();
        // So that others can enter; if it is no longer, there is something to be taken, perhaps by others.
        if word.compare_exchange(PARKED, EMPTY, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.told();
            return Waited::Called;
        }
        self.waiting.set(self.waiting.get() + 1);
        self.call_selected();
        let waited = match Anonymous::new() {
            Some(record) => self.wait_selected(word, deadline, record),
            None => self.wait_told(word, deadline),
        };
        self.waiting.set(self.waiting.get() - 1);
        if waited == Waited::Refused {
            // Back to what it was, for the plain wait.
            let _ = word.compare_exchange(EMPTY, PARKED, Ordering::SeqCst, Ordering::SeqCst);
            return waited;
        }
        let told = match deadline {
            // `park` returns only if it finds this.
            None => word.swap(NOTIFIED, Ordering::SeqCst) == NOTIFIED,
            // `park_timeout` takes whatever it finds: an `unpark` until then makes a call.
            Some(_) => word.compare_exchange(EMPTY, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_err(),
        };
        if told {
            self.told();
        }
        waited
    }

    /// Waits until the record says that it is over.
    fn wait_selected(&self, word: &AtomicU32, deadline: Option<Deadline>, record: Anonymous) -> Waited {
        let bits = record.bits();
        let this = Selectable { record, next: Cell::new(self.selectable.get()) };
        self.selectable.set(&raw const this);
        let wait = Wait {
            address: std::ptr::from_ref(word).addr(),
            bits,
            deadline,
            interruptible: false,
            why: &"thread::park",
        };
        let waited = loop {
            let waited = wait.run(|| !this.record.is_over(), || ());
            if this.record.is_over() {
                break Waited::Called;
            }
            if matches!(waited, Waited::Deadline | Waited::Refused) {
                break waited;
            }
        };
        let mut link = &self.selectable;
        while !std::ptr::eq(link.get(), &raw const this) {
            // SAFETY: this is in the list, and all before it wait, so that they are alive.
            link = unsafe { &(*link.get()).next };
        }
        link.set(this.next.get());
        waited
    }

    /// Waits until somebody is unparked, or for a while.
    fn wait_told(&self, word: &AtomicU32, deadline: Option<Deadline>) -> Waited {
        match self.sent_back.get() {
            0 => self.since.set(Some(Instant::now())),
            count => self.sent_back.set(count - 1),
        }
        if self.owed.take() {
            return Waited::Called;
        }
        let patience = self.patience();
        let first = match (deadline, patience) {
            (Some(deadline), Some(patience)) if deadline.left() <= patience => Some(deadline),
            (deadline, None) => deadline,
            (_, Some(patience)) => foreign::deadline(patience),
        };
        let round = self.rounds.get();
        self.listening.set(self.listening.get() + 1);
        let address = std::ptr::from_ref(word).addr();
        let waited =
            Wait { address, bits: LISTENING, deadline: first, interruptible: false, why: &"thread::park" }
                .run(|| word.load(Ordering::SeqCst) == EMPTY, || ());
        self.listening.set(self.listening.get() - 1);
        // Who unparks from another thread calls one.
        if waited == Waited::Called && self.rounds.get() == round {
            self.told();
        }
        if waited == Waited::Deadline && deadline.is_none_or(|deadline| !deadline.left().is_zero()) {
            self.sent_back.set(self.sent_back.get() + 1);
            return Waited::Called;
        }
        waited
    }

    fn note_user(&self) {
        let me = Users::One(foreign::current_id());
        match self.users.get() {
            Users::Nobody => self.users.set(me),
            Users::Several => {}
            user if user == me => {}
            _ => {
                self.users.set(Users::Several);
                // Who is there waits for ever.
                self.call_all();
            }
        }
    }

    /// Somebody has unparked this thread: all return whom it may concern, or the next one to come does.
    fn told(&self) {
        match self.listening.get() {
            0 => self.owed.set(true),
            _ => self.call_all(),
        }
    }

    /// All return who have no record.
    fn call_all(&self) {
        self.since.set(Some(Instant::now()));
        self.rounds.set(self.rounds.get() + 1);
        lot::call(self.word.get(), LISTENING, usize::MAX);
    }

    /// Those return whose records say so.
    fn call_selected(&self) {
        let mut next = self.selectable.get();
        // SAFETY: those in the list wait, so that they are alive.
        while let Some(this) = unsafe { next.as_ref() } {
            next = this.next.get();
            if this.record.is_over() {
                lot::call(self.word.get(), this.record.bits(), usize::MAX);
            }
        }
    }

    /// For how long at most one waits: for as long as it is since something happened, so that it is the more seldom the longer
    /// nothing does. For ever if nobody else uses the word.
    fn patience(&self) -> Option<Duration> {
        let since = self.since.get().filter(|_| self.users.get() == Users::Several)?;
        Some(since.elapsed().clamp(SOON, SELDOM))
    }
}
