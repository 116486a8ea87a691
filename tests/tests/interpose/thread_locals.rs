//! Notes that libraries keep in thread-locals, and that belong to the greenlet that is at work in them.

use std::cell::{Cell, RefCell};
use std::thread;
use std::time::Duration;

use greenserve_tests::in_time;

/// As tokio has it: a flag, an owned pointer, a pointer to the stack, and something of each thread's own among them.
struct Context {
    at_work: Cell<bool>,
    seed: Cell<u32>,
    runtime: RefCell<Option<std::rc::Rc<u32>>>,
    scheduler: Cell<*const u32>,
}

thread_local! {
    static CONTEXT: Context = const {
        Context {
            at_work: Cell::new(false),
            seed: Cell::new(0),
            runtime: RefCell::new(None),
            scheduler: Cell::new(std::ptr::null()),
        }
    };
    /// Nobody's note: changed by the call and not put back.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn block_on<T>(runtime: u32, f: impl FnOnce() -> T) -> T {
    CALLS.set(CALLS.get() + 1);
    let scheduler = runtime;
    CONTEXT.with(|context| {
        assert!(!context.at_work.replace(true), "cannot start a runtime from within a runtime");
        if context.seed.get() == 0 {
            context.seed.set(std::ptr::from_ref(context).addr() as u32 | 1);
        }
        let before = context.runtime.replace(Some(std::rc::Rc::new(runtime)));
        assert!(before.is_none());
        context.scheduler.set(&scheduler);
    });
    let result = f();
    CONTEXT.with(|context| {
        assert_eq!(context.scheduler.get(), std::ptr::from_ref(&scheduler));
        context.scheduler.set(std::ptr::null());
        assert_eq!(context.runtime.take().as_deref(), Some(&runtime));
        assert!(context.at_work.replace(false));
    });
    result
}

/// What `block_on` keeps, learned once for all tests here.
fn learned() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the notes are about the call alone.
        let words = unsafe { greenlet_interpose::thread_locals::learn(|at_work| block_on(7, at_work)) };
        assert_eq!(words, 3, "the flag, and two pointers");
    });
}

#[test]
fn a_note_is_not_seen_by_others_while_its_greenlet_waits() {
    in_time(|| {
        learned();
        let sleepers: Vec<_> = (0..10)
            .map(|runtime| {
                greenlet::spawn(move || {
                    block_on(runtime, || {
                        greenlet::sleep(Duration::from_millis(20));
                        greenlet::sleep(Duration::from_millis(1));
                        greenlet::yield_now();
                        CONTEXT.with(|context| context.runtime.borrow().as_deref().copied())
                    })
                })
            })
            .collect();
        // Main too.
        assert_eq!(block_on(100, || greenlet::spawn(|| block_on(101, || 102)).join().unwrap()), 102);
        for (runtime, sleeper) in (0..).zip(sleepers) {
            assert_eq!(sleeper.join().unwrap(), Some(runtime));
        }
        assert!(!CONTEXT.with(|context| context.at_work.get()));
    });
}

#[test]
fn a_call_within_a_call_of_the_same_greenlet_still_sees_the_note() {
    in_time(|| {
        learned();
        let nested = greenlet::spawn(|| {
            block_on(1, || {
                greenlet::yield_now();
                let nested = greenlet::catch_panic(|| block_on(2, || ()));
                CONTEXT.with(|context| context.at_work.set(true));
                nested.is_err()
            })
        });
        assert!(nested.join().unwrap());
    });
}

#[test]
fn a_killed_greenlet_leaves_no_note_behind() {
    struct Leaves;
    impl Drop for Leaves {
        fn drop(&mut self) {
            CONTEXT.with(|context| {
                context.scheduler.set(std::ptr::null());
                assert_eq!(context.runtime.take().as_deref(), Some(&5), "its own");
                assert!(context.at_work.replace(false), "its own");
            });
        }
    }
    in_time(|| {
        learned();
        let stuck = greenlet::spawn(|| {
            block_on(5, || {
                let _leaves = Leaves;
                greenlet::sleep(Duration::from_secs(1000));
            })
        });
        greenlet::yield_now();
        stuck.kill().unwrap();
        assert_eq!(block_on(6, || 6), 6);
    });
}

#[test]
fn what_is_not_put_back_is_nobody_s_note() {
    in_time(|| {
        learned();
        CALLS.set(0);
        let callers: Vec<_> = (0..3).map(|_| greenlet::spawn(|| block_on(1, greenlet::yield_now))).collect();
        greenlet::join_all(&callers, None).unwrap();
        assert_eq!(CALLS.get(), 3);
    });
}

#[test]
fn threads_without_a_hub_are_as_they_were() {
    learned();
    let result = thread::spawn(|| block_on(1, || block_on_panics(2))).join().unwrap();
    assert!(result);
    fn block_on_panics(runtime: u32) -> bool {
        let result = std::panic::catch_unwind(|| block_on(runtime, || ()));
        CONTEXT.with(|context| context.at_work.set(true));
        result.is_err()
    }
}

#[test]
#[should_panic(expected = "was never called")]
fn a_call_that_shows_nothing_is_refused() {
    // SAFETY: it changes nothing.
    unsafe { greenlet_interpose::thread_locals::learn(|_| ()) };
}

/// As parking_lot has it: a place in a queue, the thread's own, or on the stack where there is none.
struct Place {
    address: Cell<usize>,
    number: Cell<usize>,
}

impl Place {
    fn new() -> Place {
        Place { address: Cell::new(0), number: Cell::new(1) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.number.set(0);
    }
}

thread_local! {
    static PLACE: Place = Place::new();
}

/// Waits at a place, and gives its address.
fn wait_at_place(wait: impl FnOnce()) -> usize {
    let mut own = None;
    let place = PLACE.try_with(std::ptr::from_ref).unwrap_or_else(|_| own.insert(Place::new()));
    // SAFETY: the thread's or in `own`.
    let place = unsafe { &*place };
    place.address.set(std::ptr::from_ref(place).addr());
    wait();
    place.address.get()
}

#[test]
fn greenlets_have_places_of_their_own_where_a_thread_would_have_one() {
    in_time(|| {
        let naps = || {
            let naps: Vec<_> = (0..10)
                .map(|_| greenlet::spawn(|| wait_at_place(|| greenlet::sleep(Duration::from_millis(10)))))
                .collect();
            let mut places: Vec<_> = naps.into_iter().map(|nap| nap.join().unwrap()).collect();
            places.sort_unstable();
            places.dedup();
            places.len()
        };
        assert_eq!(naps(), 1, "the thread's");
        // SAFETY: the place is used by `try_with`.
        assert!(unsafe {
            greenlet_interpose::thread_locals::do_without(|| {
                wait_at_place(|| ());
            })
        });
        assert_eq!(naps(), 10);
        // A thread without greenlets has one as before.
        let twice = thread::spawn(|| [wait_at_place(|| ()), wait_at_place(|| ())]).join().unwrap();
        assert_eq!(twice[0], twice[1]);
    });
}

#[test]
fn a_thread_local_that_its_library_does_not_make_cannot_be_done_without() {
    // SAFETY: it changes nothing.
    assert!(!unsafe { greenlet_interpose::thread_locals::do_without(|| ()) });
}
