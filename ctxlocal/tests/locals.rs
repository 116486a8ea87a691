//! What users see of typed values: initialisation, scopes, the order of dropping.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use ctxlocal::{AccessError, ctxlocal, dynamic, scope};

thread_local! {
    static LOG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn log(line: &'static str) {
    LOG.with_borrow_mut(|log| log.push(line));
}

fn take_log() -> Vec<&'static str> {
    LOG.take()
}

/// Logs its name when dropped, after running what it was given.
struct Noisy(&'static str, fn());

impl Drop for Noisy {
    fn drop(&mut self) {
        (self.1)();
        log(self.0);
    }
}

fn nothing() {}

#[test]
fn a_value_is_initialised_once_per_map() {
    ctxlocal! { static N: Cell<u32> = { log("init"); Cell::new(5) }; }
    scope(|| {
        assert_eq!(N.get(), 5);
        N.set(6);
        assert_eq!(N.get(), 6);
        scope(|| assert_eq!(N.get(), 5));
        assert_eq!(N.get(), 6);
    });
    assert_eq!(take_log(), ["init", "init"]);
}

#[test]
fn set_does_not_run_the_initialiser() {
    ctxlocal! {
        static N: Cell<u32> = panic!("initialiser ran");
        static S: RefCell<String> = panic!("initialiser ran");
    }
    scope(|| {
        N.set(1);
        S.set("a".into());
        assert_eq!((N.replace(2), N.take(), N.get()), (1, 2, 0));
        assert_eq!((S.replace("b".into()), S.take(), S.take()), ("a".into(), "b".into(), String::new()));
    });
}

#[test]
fn each_thread_has_its_own_values() {
    ctxlocal! { static N: Cell<u32> = Cell::new(0); }
    N.set(1);
    std::thread::spawn(|| assert_eq!(N.replace(2), 0)).join().unwrap();
    assert_eq!(N.get(), 1);
}

#[test]
fn keys_that_look_alike_are_different() {
    mod one {
        ctxlocal::ctxlocal! { pub(crate) static N: std::cell::Cell<u32> = std::cell::Cell::new(0); }
    }
    mod two {
        ctxlocal::ctxlocal! { pub(crate) static N: std::cell::Cell<u32> = std::cell::Cell::new(0); }
    }
    scope(|| {
        one::N.set(1);
        assert_eq!(two::N.get(), 0);
    });
    assert_eq!(one::N.name(), "locals::one::N");
}

#[test]
fn values_are_dropped_last_come_first_typed_and_dynamic_alike() {
    ctxlocal! {
        static A: Noisy = Noisy("a", nothing);
        static B: Noisy = Noisy("b", nothing);
    }
    scope(|| {
        B.with(|_| ());
        dynamic::set("c", Noisy("c", nothing));
        A.with(|_| ());
    });
    assert_eq!(take_log(), ["a", "c", "b"]);
}

#[test]
fn a_value_whose_initialiser_uses_another_goes_before_it() {
    ctxlocal! {
        static USER: Noisy = { USED.with(|_| ()); Noisy("user", || USED.with(|_| log("still there"))) };
        static USED: Noisy = Noisy("used", nothing);
    }
    scope(|| USER.with(|_| ()));
    assert_eq!(take_log(), ["still there", "user", "used"]);
}

#[test]
fn scopes_drop_their_values_before_the_outer_map_is_back() {
    ctxlocal! {
        static NAME: Cell<&'static str> = Cell::new("outer");
        static SPY: Noisy = Noisy("spy", || log(NAME.get()));
    }
    NAME.set("outer");
    scope(|| {
        NAME.set("inner");
        SPY.with(|_| ());
    });
    assert_eq!(take_log(), ["inner", "spy"]);
    assert_eq!(NAME.get(), "outer");
}

#[test]
fn a_scope_that_unwinds_drops_its_values_and_restores_the_outer_map() {
    ctxlocal! {
        static NAME: Cell<&'static str> = Cell::new("fresh");
        static SPY: Noisy = Noisy("spy", || log(NAME.get()));
    }
    NAME.set("outer");
    let result = catch_unwind(|| {
        scope(|| {
            NAME.set("inner");
            SPY.with(|_| panic!("on purpose"))
        })
    });
    assert!(result.is_err());
    assert_eq!(take_log(), ["inner", "spy"]);
    assert_eq!(NAME.get(), "outer");
}

#[test]
fn a_panic_in_a_destructor_lets_the_others_run_and_goes_on() {
    ctxlocal! {
        static A: Noisy = Noisy("a", nothing);
        static B: Noisy = Noisy("b", || panic!("on purpose"));
        static C: Noisy = Noisy("c", nothing);
        static N: Cell<u8> = Cell::new(0);
    }
    N.set(1);
    let result = catch_unwind(|| {
        scope(|| {
            A.with(|_| ());
            B.with(|_| ());
            C.with(|_| ());
        })
    });
    assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert_eq!(take_log(), ["c", "a"]);
    assert_eq!(N.get(), 1);
}

#[test]
fn an_initialiser_that_asks_for_its_own_value_gets_an_error() {
    ctxlocal! {
        static N: Cell<u32> = { N.try_with(|_| ()).unwrap_err(); Cell::new(N.try_with(Cell::get).unwrap_or(9)) };
        static M: Cell<u32> = Cell::new(M.get());
    }
    scope(|| {
        assert_eq!(N.get(), 9);
        let panic = catch_unwind(|| M.get()).unwrap_err();
        assert!(panic.downcast::<String>().unwrap().contains("initialiser of `locals::"));
        // the failed attempt left nothing behind
        M.set(3);
        assert_eq!(M.get(), 3);
    });
}

#[test]
fn an_initialiser_that_panics_is_tried_again_at_the_next_use() {
    thread_local!(static BROKEN: Cell<bool> = const { Cell::new(true) });
    ctxlocal! { static N: u32 = if BROKEN.get() { panic!("on purpose") } else { 4 }; }
    scope(|| {
        assert!(catch_unwind(|| N.with(|_| ())).is_err());
        BROKEN.set(false);
        N.with(|n| assert_eq!(*n, 4));
    });
}

#[test]
fn an_initialiser_may_enter_a_scope_or_clear_the_map() {
    ctxlocal! {
        static OTHER: Cell<u32> = Cell::new(0);
        static N: u32 = { OTHER.set(1); scope(|| OTHER.set(2)); OTHER.get() };
        static M: u32 = { ctxlocal::clear(); OTHER.get() };
    }
    scope(|| {
        N.with(|n| assert_eq!(*n, 1));
        M.with(|m| assert_eq!(*m, 0));
        M.with(|m| assert_eq!(*m, 0));
    });
}

#[test]
fn with_may_be_nested_and_add_values() {
    ctxlocal! {
        static A: RefCell<Vec<u32>> = RefCell::new(vec![1]);
        static B: RefCell<Vec<u32>> = RefCell::new(vec![2]);
    }
    scope(|| {
        A.with(|a| {
            B.with(|b| {
                for i in 0..100 {
                    dynamic::set(i.to_string(), i);
                }
                A.with(|again| assert!(std::ptr::eq(a, again)));
                a.borrow_mut().push(b.borrow()[0]);
            });
            assert_eq!(*a.borrow(), [1, 2]);
        });
        assert_eq!(dynamic::names().len(), 100);
    });
}

#[test]
fn a_value_in_use_outlives_clear_and_goes_when_with_returns() {
    ctxlocal! { static A: Noisy = Noisy("a", nothing); }
    scope(|| {
        A.with(|a| {
            ctxlocal::clear();
            log(a.0);
            log("after clear");
        });
        log("after with");
    });
    assert_eq!(take_log(), ["a", "after clear", "a", "after with"]);
}

#[test]
fn a_map_dropped_or_swapped_inside_with_leaves_the_reference_whole() {
    ctxlocal! { static A: Noisy = Noisy("a", nothing); }
    let mut green = ctxlocal::Map::new();
    ctxlocal::swap(&mut green);
    A.with(|a| {
        ctxlocal::swap(&mut green);
        drop(green);
        log(a.0);
        log("after drop");
    });
    assert_eq!(take_log(), ["a", "after drop", "a"]);
}

#[test]
fn destructors_may_bring_values_back_a_bounded_number_of_times() {
    ctxlocal! {
        static PING: Noisy = Noisy("ping", || if let Err(e) = PONG.try_with(|_| ()) { refused(&e, "PONG") });
        static PONG: Noisy = Noisy("pong", || if let Err(e) = PING.try_with(|_| ()) { refused(&e, "PING") });
    }
    fn refused(error: &AccessError, name: &str) {
        assert!(matches!(error, AccessError::Ended { name: n } if n.ends_with(name)));
        log("refused");
    }
    scope(|| PING.with(|_| ()));
    assert_eq!(take_log(), ["ping", "pong", "ping", "pong", "refused", "ping"]);
    // the map of the thread itself is not marked by that
    PING.with(|_| ());
    ctxlocal::clear();
    assert_eq!(take_log().len(), 6);
    PING.with(|_| ());
    ctxlocal::clear();
    assert_eq!(take_log().len(), 6);
}

#[test]
fn clear_within_a_destructor_does_not_lift_the_bound() {
    ctxlocal! {
        static A: Noisy = Noisy("a", || { ctxlocal::clear(); if A.try_with(|_| ()).is_err() { log("refused") } });
    }
    scope(|| A.with(|_| ()));
    assert_eq!(take_log(), ["a", "a", "a", "a", "refused", "a"]);
}

#[test]
fn a_thread_drops_its_values_when_it_ends() {
    struct Report(&'static str, Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Report {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    ctxlocal! { static SLOT: RefCell<Option<Report>> = RefCell::new(None); }

    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&seen);
    let thread = std::thread::spawn(move || {
        dynamic::set("first", Report("first", Arc::clone(&theirs)));
        SLOT.set(Some(Report("second", theirs)));
    });
    thread.join().unwrap();
    assert_eq!(*seen.lock().unwrap(), ["second", "first"]);
}

#[test]
fn a_thread_local_that_goes_after_the_threads_values_can_still_use_keys() {
    ctxlocal! { static N: Cell<u32> = Cell::new(1); }
    struct Last(Arc<Mutex<Option<u32>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(scope(|| N.get()));
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });

    let seen = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&seen);
    let thread = std::thread::spawn(move || {
        LAST.set(Some(Last(theirs)));
        N.set(2);
    });
    thread.join().unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(1));
}

#[test]
fn a_borrow_panics_as_a_ref_cell_does() {
    ctxlocal! { static S: RefCell<String> = RefCell::default(); }
    let twice = AssertUnwindSafe(|| S.with_borrow_mut(|_| S.with_borrow_mut(|_| ())));
    assert!(catch_unwind(twice).is_err());
    S.with_borrow_mut(|s| s.push('x'));
    assert_eq!(S.with_borrow(String::len), 1);
    assert_eq!(format!("{S:?}"), "LocalKey(locals::S)");
}
