//! Thread-locals of libraries that are to belong to a greenlet.
//!
//! Some libraries note in a thread-local that they are at work on this thread, and look there when they are called again. A
//! thread that waits inside of such a library would not come back, so they are right to; a greenlet that waits lets others
//! run, who then find the note. Tokio is the one that matters: `block_on` within `block_on` panics ("Cannot start a runtime from
//! within a runtime"), and the `postgres` crate is a `block_on` around each query.
//!
//! Such a thread-local has no name that could be asked for. But it can be seen: what is different while the library is at
//! work, and as before when it is done. [`learn`] looks, once, and from then on a greenlet takes these words with it when it
//! waits, and the others find them as they are when nobody is at work.
//!
//! Others queue up as their thread, by the address of a thread-local. `parking_lot` is the one that matters: two greenlets of one
//! thread that wait would be one place in its queue. Libraries have to reckon with a thread that is about to end and has no
//! thread-locals any more, and use their stack then; [`do_without`] has the threads of greenlets look so to them.

use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::block;

/// A word of each thread's block of thread-locals, or some of its bytes.
#[derive(Clone, Copy)]
struct Word {
    /// How far from [`HERE`] it lies, on every thread.
    distance: isize,
    /// The bits that are meant.
    mask: usize,
    /// What they are while the library is not at work, on every thread.
    outside: usize,
}

/// What has been learned: null or a leaked list, which grows by being replaced.
static WORDS: AtomicPtr<Vec<Word>> = AtomicPtr::new(std::ptr::null_mut());

/// Where greenlets' threads have the state of thread-locals that they are to do without, as distances: null or a leaked list.
static WITHOUT: AtomicPtr<Vec<isize>> = AtomicPtr::new(std::ptr::null_mut());

/// So many words are kept on the stack of who waits.
const MOST: usize = 64;

static ONE_BY_ONE: Mutex<()> = Mutex::new(());

thread_local! {
    /// Where this thread's block is.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Finds the thread-locals that `call` changes for as long as it lasts, and makes them the greenlets' own: a greenlet that
/// waits while they are changed does not show others the change. Returns how many words they are.
///
/// `call` is to have the library do what it does when it is at work, and then call its argument. It is run some times, on
/// threads made for it, one after the other. To be called at the program's start, before the first greenlet waits inside of the library;
/// in a program with `greenserve::main` before that, so that all workers have it. A library linked twice, in two
/// versions, is two libraries.
///
/// ```
/// use greenlet_interpose as _;
/// # mod tokio_like {
/// #     thread_local!(static AT_WORK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
/// #     pub fn block_on(f: impl FnOnce()) {
/// #         assert!(!AT_WORK.replace(true), "cannot start a runtime from within a runtime");
/// #         f();
/// #         AT_WORK.set(false);
/// #     }
/// # }
/// // SAFETY: all that it changes for as long as it lasts is its flag, which is for nobody else to look at.
/// unsafe {
///     greenlet_interpose::thread_locals::learn(|at_work| {
///         // with tokio: `Builder::new_current_thread().build().unwrap().block_on(async { at_work() })`
///         tokio_like::block_on(|| at_work());
///     });
/// }
/// let nap = || tokio_like::block_on(|| std::thread::sleep(std::time::Duration::from_millis(10)));
/// let sleepers: Vec<_> = (0..3).map(|_| greenlet::spawn(nap)).collect();
/// assert!(sleepers.into_iter().all(|sleeper| sleeper.join().is_ok()));
/// ```
///
/// What it can't see: state in memory that a thread-local only points to; a library's thread-locals in a shared library of
/// its own (those of the executable are looked at, which is where all Rust crates are); what `call` does not do. Values are moved
/// about bit by bit, so `call` must leave things as it has found them, as `block_on` does.
///
/// # Safety
/// The thread-locals that `call` changes for as long as it lasts, and only for so long, are changed back and forth behind the
/// library's back. So they must be notes of the call that is at work: nothing may be lost or owned twice if each greenlet has its own and
/// another greenlet of the thread finds them as they are when nobody is at work (a count of references, or of borrows of
/// something that all share, is not of this kind), nor may a reference to their values be held over a wait.
///
/// # Panics
/// If `call` panics or does not call its argument, and if it changes more than 64 words.
pub unsafe fn learn(call: impl Fn(&mut dyn FnMut()) + Sync) -> usize {
    let _one_by_one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let look = || std::thread::scope(|scope| scope.spawn(|| look(&call)).join());
    let [one, other] =
        [look(), look()].map(|seen| seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    let mut words = known().to_vec();
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one.distance, other.distance, "threads of one program have the same thread-locals");
        let mask = changed(one, other);
        if mask != 0 && !words.iter().any(|word| word.distance == one.distance) {
            words.push(Word { distance: one.distance, mask, outside: one.outside });
        }
    }
    assert!(
        words.len() <= MOST,
        "{} words of thread-locals are changed, of which {MOST} can be kept",
        words.len()
    );
    let count = words.len();
    // Never freed: others may be looking at the one before.
    WORDS.store(Box::leak(Box::new(words)), Ordering::Release);
    greenlet::foreign::around_waits(around);
    count
}

/// Finds a thread-local that `call` makes on its first use on a thread, and has the threads of greenlets look as though it had been
/// destroyed already, as it is when a thread ends. Says whether there is one, and the library does without.
///
/// For libraries that use a thread-local as the thread's place in a queue, and the stack of the caller if there is none:
///
/// ```
/// use greenlet_interpose as _;
/// # mod lot {
/// #     use std::cell::Cell;
/// #     struct Place([Cell<usize>; 3]);
/// #     impl Drop for Place { fn drop(&mut self) {} }
/// #     thread_local!(static PLACE: Place = Place([const { Cell::new(7) }; 3]));
/// #     pub fn wait() { let _ = PLACE.try_with(|place| place.0[1].set(8)); }
/// # }
/// // SAFETY: `wait` makes one thread-local, and uses it by `try_with`.
/// let there_was_one = unsafe {
///     greenlet_interpose::thread_locals::do_without(|| {
///         // with parking_lot: `Condvar::new().wait_for(&mut Mutex::new(()).lock(), Duration::from_millis(1))`
///         lot::wait();
///     })
/// };
/// assert!(there_was_one);
/// ```
///
/// It knows how std notes that a thread-local is made and destroyed, and tries whether that is still so: if not, it says no. `call`
/// is run on some threads made for it, one after the other. When to call it: as [`learn`].
///
/// # Safety
/// To find out which it is, bytes of the threads made for it are changed that go from 0 to 1 with the first `call`, each as though it
/// were a thread-local's state. So all that `call` notes in thread-locals must bear that: flags and numbers, not a `bool` that
/// would be read as 2 or the tag of an `enum` that has no such value. And the library must be right without the thread-local, also where it has
/// used it before: what lies in it is not dropped any more.
///
/// # Panics
/// If `call` panics.
pub unsafe fn do_without(call: impl Fn() + Sync) -> bool {
    let _one_by_one = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let first_use = |destroyed: Option<isize>| {
        let seen = std::thread::scope(|scope| scope.spawn(|| first_use(&call, destroyed)).join());
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    let made = first_use(None);
    let is_state = |word: &&Changed| word.before == UNINITIALISED && word.after == ALIVE;
    // What lies before or after its state is what is not there when it is destroyed.
    let is_done_without = |state: &&Changed| {
        let without = first_use(Some(state.distance));
        let is_left_alone = |distance| without.iter().all(|word| word.distance != distance);
        let beside = [-1, 1].map(|words| state.distance + words * size_of::<usize>() as isize);
        let used = made.iter().filter(|word| beside.contains(&word.distance));
        let used: Vec<_> = used.map(|word| word.distance).collect();
        is_left_alone(state.distance) && !used.is_empty() && used.into_iter().all(is_left_alone)
    };
    let Some(state) = made.iter().filter(is_state).find(is_done_without) else { return false };
    // SAFETY: null, or leaked.
    let mut states = unsafe { WITHOUT.load(Ordering::Acquire).as_ref() }.cloned().unwrap_or_default();
    states.push(state.distance);
    WITHOUT.store(Box::leak(Box::new(states)), Ordering::Release);
    greenlet::foreign::around_waits(around);
    true
}

/// How std notes what became of a thread-local, in a word of which it uses a byte.
const UNINITIALISED: usize = 0;
const ALIVE: usize = usize::from_ne_bytes({
    let mut bytes = [0; size_of::<usize>()];
    bytes[0] = 1;
    bytes
});
const DESTROYED: u8 = 2;

/// A word that is another since a library was used on this thread for the first time.
struct Changed {
    distance: isize,
    before: usize,
    after: usize,
}

fn first_use(call: &dyn Fn(), destroyed: Option<isize>) -> Vec<Changed> {
    let (start, words) = block();
    let here = HERE.with(|here| std::ptr::from_ref(here).expose_provenance());
    if let Some(state) = destroyed {
        destroy(here, state);
    }
    let (mut before, mut after) = (vec![0; words], vec![0; words]);
    copy(start, &mut before);
    call();
    copy(start, &mut after);
    (0..words)
        .filter(|word| before[*word] != after[*word])
        .map(|word| Changed {
            distance: (start + word * size_of::<usize>()).wrapping_sub(here) as isize,
            before: before[word],
            after: after[word],
        })
        .collect()
}

fn destroy(here: usize, state: isize) {
    let place = std::ptr::with_exposed_provenance_mut::<u8>(here.wrapping_add_signed(state));
    // SAFETY: the first byte of a word of this thread's block, which was seen to go from 0 to 1 when a thread-local was made. If
    // that is its state it is said to be destroyed, which has it looked at by nobody. If it is not, it is a number or a
    // flag of a thread that was made to find that out. Volatile, for the same reason as in `copy`.
    unsafe { place.write_volatile(DESTROYED) };
}

/// What was seen of a word on one thread.
struct Seen {
    distance: isize,
    outside: usize,
    inside: usize,
    /// It was the same after the call as before.
    put_back: bool,
}

/// The bits of a word that are the library's note: those bytes that the call changes and puts back, and that are the same on all
/// threads before it. The word may hold other small things beside them, of the library's or not. An address has it for itself,
/// and may differ in other bytes the next time.
fn changed(one: &Seen, other: &Seen) -> usize {
    let is_note = |byte: usize| {
        let of = |word: usize| word.to_ne_bytes()[byte];
        [one, other].iter().any(|seen| of(seen.inside) != of(seen.outside))
            && of(one.outside) == of(other.outside)
    };
    if !one.put_back || !other.put_back {
        return 0;
    }
    let bytes = usize::from_ne_bytes(std::array::from_fn(|byte| if is_note(byte) { u8::MAX } else { 0 }));
    let is_address = |word: usize| (1 << 32..1 << 47).contains(&word);
    let addresses = [one, other].iter().all(|seen| is_address(seen.inside) || is_address(seen.outside));
    if bytes != 0 && one.outside == other.outside && addresses { usize::MAX } else { bytes }
}

/// What becomes of this thread's block while `call` is at work.
fn look(call: &dyn Fn(&mut dyn FnMut())) -> Vec<Seen> {
    // What is made on first use is made by the first.
    call(&mut || {});
    let (start, words) = block();
    let here = HERE.with(|here| std::ptr::from_ref(here).addr());
    let (mut before, mut inside, mut after) = (vec![0; words], Vec::with_capacity(words), vec![0; words]);
    copy(start, &mut before);
    inside.resize(words, 0);
    let mut called = false;
    call(&mut || {
        copy(start, &mut inside);
        called = true;
    });
    copy(start, &mut after);
    assert!(called, "what is to be looked at while the library is at work was never called");
    (0..words)
        .map(|word| Seen {
            distance: (start + word * size_of::<usize>()).wrapping_sub(here) as isize,
            outside: before[word],
            inside: inside[word],
            put_back: before[word] == after[word],
        })
        .collect()
}

fn copy(start: usize, into: &mut [usize]) {
    let start = std::ptr::with_exposed_provenance::<usize>(start);
    for (index, word) in into.iter_mut().enumerate() {
        // SAFETY: within the block of this thread, which nobody else writes to, aligned by `block`; volatile since it is no
        // value of Rust's that is read but memory.
        *word = unsafe { start.add(index).read_volatile() };
    }
}

/// Where this thread has the thread-locals of the executable, or of the library that this crate is part of, and how many
/// words they are.
fn block() -> (usize, usize) {
    let bounds = block::bounds();
    assert!(!bounds.is_empty(), "the loader does not say where this thread's thread-locals are");
    let word = size_of::<usize>();
    let start = bounds.start.next_multiple_of(word);
    (start, (bounds.end - start) / word)
}

fn known() -> &'static [Word] {
    // SAFETY: null, or leaked.
    unsafe { WORDS.load(Ordering::Acquire).as_ref() }.map_or(&[], Vec::as_slice)
}

impl Word {
    fn place(self, here: usize) -> *mut usize {
        std::ptr::with_exposed_provenance_mut(here.wrapping_add_signed(self.distance))
    }

    /// Puts another value there, and returns what was there.
    fn replace(self, here: usize, value: usize) -> usize {
        let place = self.place(here);
        // SAFETY: a word of this thread's block, which has the same layout on all threads; `learn` has seen that a library
        // keeps a note there. Volatile, for the same reason as in `copy`.
        unsafe {
            let old = place.read_volatile();
            place.write_volatile(old & !self.mask | value & self.mask);
            old
        }
    }
}

/// Runs a wait with the words as they are when nobody is at work.
fn around(wait: &mut dyn FnMut()) {
    struct Back<'a> {
        words: &'a [Word],
        here: usize,
        kept: [usize; MOST],
    }
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            for (word, kept) in self.words.iter().zip(&self.kept) {
                word.replace(self.here, *kept);
            }
        }
    }
    let here = HERE.with(|here| std::ptr::from_ref(here).expose_provenance());
    // SAFETY: null, or leaked.
    for state in unsafe { WITHOUT.load(Ordering::Acquire).as_ref() }.into_iter().flatten() {
        // Whoever is in the midst of using it goes on to do so, and is the last.
        destroy(here, *state);
    }
    let mut back = Back { words: known(), here, kept: [0; MOST] };
    for (word, kept) in back.words.iter().zip(&mut back.kept) {
        *kept = word.replace(here, word.outside);
    }
    wait();
}
