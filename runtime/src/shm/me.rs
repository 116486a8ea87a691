//! This process among the others: its token, its own who wait, and the thread that listens for them.
//!
//! All of it is this process's own memory. A forked child begins with nothing of it: the pointer to it is reset there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::gate::Queue;
use super::registry::{Registry, Token};
use crate::sync::shared::{Sleeper, Waker};

/// While somebody waits, the owners are looked at this often.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// The thread that listens runs nothing of the user's.
const STACK: usize = 128 * 1024;

/// Null until this process first uses a shared object, and in the child of a fork. Never freed.
static ME: AtomicPtr<Me> = AtomicPtr::new(ptr::null_mut());

/// This process.
pub(super) struct Me {
    pub(super) token: Token,
    pub(super) registry: &'static Registry,
    local: Mutex<Local>,
}

/// Those of this process who wait.
#[derive(Default)]
pub(super) struct Local {
    /// Those at the gates, by the gates' addresses.
    pub(super) queues: HashMap<usize, Queue>,
    /// Those who are to look for themselves whenever the bell rings.
    lookers: BTreeMap<u64, Waiter>,
    next_ticket: u64,
    listener: Listener,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Listener {
    #[default]
    None,
    /// Until the bell rings.
    Asleep,
    /// It looks every [`TICK`].
    Awake,
}

/// One who waits.
pub(super) struct Waiter {
    waker: Waker,
    thread: ThreadId,
}

impl Waiter {
    pub(super) fn new(sleeper: &Sleeper) -> io::Result<Waiter> {
        Ok(Waiter { waker: sleeper.waker()?, thread: thread::current().id() })
    }

    /// False when there is nobody left to wake.
    pub(super) fn wake(self) -> bool {
        self.waker.wake()
    }
}

impl Local {
    /// A number that nobody else has.
    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Has one look for itself at the next ring.
    pub(super) fn add_looker(&mut self, ticket: u64, waiter: Waiter) {
        self.lookers.insert(ticket, waiter);
    }

    pub(super) fn remove_looker(&mut self, ticket: u64) {
        self.lookers.remove(&ticket);
    }

    fn anybody_waits(&self) -> bool {
        !self.lookers.is_empty() || self.queues.values().any(|queue| !queue.is_empty())
    }
}

impl Me {
    /// This process, entered into the table if it is not there yet.
    #[inline]
    pub(super) fn get() -> io::Result<&'static Me> {
        match Me::existing() {
            Some(me) => Ok(me),
            None => Me::enter(),
        }
    }

    #[inline]
    pub(super) fn existing() -> Option<&'static Me> {
        // SAFETY: null, or from a box that is never freed.
        unsafe { ME.load(Ordering::Acquire).as_ref() }
    }

    /// Whether this process is the one with that token, and not one that it has forked.
    #[inline]
    pub(super) fn is(token: Token) -> bool {
        Me::existing().is_some_and(|me| me.token == token)
    }

    #[cold]
    fn enter() -> io::Result<&'static Me> {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handler stores to an atomic, which the child of a fork may. It fails only for want of memory.
            unsafe { libc::pthread_atfork(None, None, Some(forget)) };
        });
        let registry = Registry::get()?;
        let token = registry.enter()?;
        let made = Box::into_raw(Box::new(Me { token, registry, local: Mutex::default() }));
        match ME.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: from a box that is never freed.
            Ok(_) => Ok(unsafe { &*made }),
            Err(other) => {
                registry.leave(token);
                // SAFETY: nobody else has seen this box; the other one is never freed.
                let (_, other) = unsafe { (Box::from_raw(made), &*other) };
                Ok(other)
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Local> {
        // Held across no code of others.
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody listens for those who wait.
    pub(super) fn listen(&'static self, local: &mut Local) -> io::Result<()> {
        match local.listener {
            Listener::None => {
                let thread = thread::Builder::new().name("greenlet-shm".to_owned()).stack_size(STACK);
                thread.spawn(|| self.serve()).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("no thread to wait for other processes with: {error}"),
                    )
                })?;
            }
            Listener::Asleep => self.registry.ring(self.token),
            Listener::Awake => {}
        }
        local.listener = Listener::Awake;
        Ok(())
    }

    /// Listens for the bell, for ever.
    fn serve(&'static self) {
        let mut last = Instant::now();
        // Nobody waited at the last look, either: where waits come close together, nobody has to be told of each.
        let mut idle = false;
        loop {
            let heard = self.registry.rings(self.token);
            let ask = last.elapsed() >= TICK;
            if ask {
                last = Instant::now();
            }
            let mut local = self.lock();
            local.queues.values_mut().for_each(|queue| queue.look(self, ask));
            let waited_for = local.anybody_waits();
            for looker in std::mem::take(&mut local.lookers).into_values() {
                looker.wake();
            }
            if !waited_for && idle {
                local.listener = Listener::Asleep;
            }
            idle = !waited_for && (ask || idle);
            let timeout = (local.listener == Listener::Awake).then_some(TICK);
            drop(local);
            self.registry.listen(self.token, heard, timeout);
        }
    }
}

/// In the child of a fork, whichever way it was forked.
extern "C" fn forget() {
    ME.store(ptr::null_mut(), Ordering::Release);
}

/// What no other thread may hold while the process forks.
pub(crate) struct BeforeFork(Option<MutexGuard<'static, Local>>);

impl BeforeFork {
    pub(crate) fn new() -> BeforeFork {
        BeforeFork(Me::existing().map(Me::lock))
    }

    /// Those who waited wait on, as those of the new process: they begin again. Its hub must be whole.
    pub(crate) fn in_child(self) {
        let Some(mut local) = self.0 else { return };
        let Local { queues, lookers, .. } = &mut *local;
        let queued = std::mem::take(queues).into_values().flat_map(Queue::into_waiters);
        for waiter in queued.chain(std::mem::take(lookers).into_values()) {
            if waiter.thread == thread::current().id() {
                waiter.wake();
            } else {
                // Its hub is the parent's, and may have been caught in the middle of something.
                std::mem::forget(waiter);
            }
        }
    }
}
