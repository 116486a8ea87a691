//! What a new green thread begins with: nothing, what its parent has, or a copy of that. And values replaced for the
//! time of a call.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ctxlocal::{Map, ctxlocal, dynamic, scope, swap};

thread_local! {
    static LOG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Logs its name when dropped.
#[derive(Clone)]
struct Noisy(&'static str);

impl Drop for Noisy {
    fn drop(&mut self) {
        LOG.with_borrow_mut(|log| log.push(self.0));
    }
}

fn take_log() -> Vec<&'static str> {
    LOG.take()
}

/// Runs `f` as the green thread that `map` belongs to.
fn within<R>(map: &mut Map, f: impl FnOnce() -> R) -> R {
    swap(map);
    let result = f();
    swap(map);
    result
}

ctxlocal! {
    copied static USER: RefCell<String> = RefCell::new("nobody".to_owned());
    static DEPTH: Cell<u32> = Cell::new(0);
    copied static FIRST: Noisy = Noisy("first");
    copied static SECOND: Noisy = Noisy("second");
    static HELD: Noisy = Noisy("held");
}

#[test]
fn shared_values_are_the_same_for_both_whoever_made_them() {
    scope(|| {
        DEPTH.set(1);
        let mut green = Map::shared();
        within(&mut green, || {
            assert_eq!(DEPTH.get(), 1);
            DEPTH.set(2);
            dynamic::set("made later", 5);
        });
        assert_eq!((DEPTH.get(), dynamic::get("made later")), (2, Ok(5)));
    });
}

#[test]
fn a_map_shared_while_it_was_empty_is_shared_all_the_same() {
    scope(|| {
        let mut green = Map::shared();
        within(&mut green, || DEPTH.set(7));
        assert_eq!(DEPTH.get(), 7);
    });
}

#[test]
fn shared_values_go_with_the_last_who_holds_them() {
    let mut green = scope(|| {
        HELD.with(|_| ());
        Map::shared()
    });
    assert!(take_log().is_empty(), "the scope that made it has ended, the green thread has not");
    within(&mut green, || {
        HELD.with(|_| ());
        ctxlocal::finish();
        assert_eq!(take_log(), ["held"]);
    });

    let green = scope(|| {
        HELD.with(|_| ());
        let mut first = Map::shared();
        let second = Map::shared();
        within(&mut first, ctxlocal::finish);
        drop(first);
        assert!(take_log().is_empty());
        second
    });
    assert!(take_log().is_empty());
    drop(green);
    assert_eq!(take_log(), ["held"]);
}

#[test]
fn clear_drops_shared_values_for_all() {
    scope(|| {
        let mut green = Map::shared();
        DEPTH.set(3);
        within(&mut green, ctxlocal::clear);
        assert_eq!(DEPTH.get(), 0);
        within(&mut green, || DEPTH.set(4));
        assert_eq!(DEPTH.get(), 4, "they share what comes after, too");
    });
}

#[test]
fn a_thread_that_ends_drops_its_values_though_somebody_abandoned_shares_them() {
    let (sender, receiver) = std::sync::mpsc::channel();
    struct Report(std::sync::mpsc::Sender<()>);
    impl Drop for Report {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    std::thread::spawn(move || {
        dynamic::set("report", Report(sender));
        std::mem::forget(Map::shared());
    })
    .join()
    .unwrap();
    assert_eq!(receiver.recv(), Ok(()));
}

#[test]
fn a_copy_has_clones_of_what_was_declared_copied_and_nothing_else() {
    scope(|| {
        USER.set("ann".to_owned());
        DEPTH.set(3);
        dynamic::set("private", 1);
        dynamic::set_copied("public", 2);
        let mut green = Map::copied();
        assert_eq!(format!("{green:?}"), r#"{"inheriting::USER", "public"}"#);
        within(&mut green, || {
            assert_eq!((USER.replace("bob".to_owned()), DEPTH.get()), ("ann".to_owned(), 0));
            dynamic::set_copied("public", 3);
            assert!(!dynamic::contains("private"));
            let mut grandchild = Map::copied();
            within(&mut grandchild, || {
                assert_eq!((USER.take(), dynamic::get("public")), ("bob".to_owned(), Ok(3)));
            });
        });
        assert_eq!((USER.take(), dynamic::get("public")), ("ann".to_owned(), Ok(2)));
    });
}

#[test]
fn a_copy_does_not_make_values_that_are_not_there() {
    scope(|| {
        assert!(Map::copied().is_empty());
        let mut green = Map::copied();
        within(&mut green, || assert_eq!(USER.take(), "nobody"));
    });
}

#[test]
fn a_copy_keeps_the_order_in_which_its_values_go() {
    scope(|| {
        SECOND.with(|_| ());
        FIRST.with(|_| ());
        drop(Map::copied());
        assert_eq!(take_log(), ["first", "second"]);
    });
    assert_eq!(take_log(), ["first", "second"]);
}

#[test]
fn a_clone_that_panics_leaves_the_original_whole_and_no_half_copy() {
    scope(|| {
        FIRST.with(|_| ());
        USER.set("ann".to_owned());
        USER.with_borrow_mut(|_| assert!(catch_unwind(Map::copied).is_err(), "it is mutably borrowed"));
        assert_eq!(take_log(), ["first"], "the clone made before it");
        assert_eq!(USER.take(), "ann");
        assert!(!Map::copied().is_empty());
        take_log();
    });
    take_log();
}

#[test]
fn clone_may_itself_use_locals() {
    struct Counted;
    impl Clone for Counted {
        fn clone(&self) -> Counted {
            DEPTH.set(DEPTH.get() + 1);
            dynamic::set("made by clone", ());
            Counted
        }
    }
    ctxlocal! { copied static COUNTED: Counted = Counted; }
    scope(|| {
        COUNTED.with(|_| ());
        drop(Map::copied());
        assert_eq!(DEPTH.get(), 1);
    });
}

#[test]
fn with_value_puts_back_what_was_there() {
    scope(|| {
        DEPTH.set(1);
        let inside = DEPTH.with_value(Cell::new(2), || {
            DEPTH.set(DEPTH.get() * 10);
            let nested = DEPTH.with_value(Cell::new(3), || DEPTH.get());
            (nested, DEPTH.get())
        });
        assert_eq!((inside, DEPTH.get()), ((3, 20), 1));
    });
}

#[test]
fn with_value_runs_no_initialiser_and_leaves_none_where_none_was() {
    ctxlocal! { static N: Cell<u32> = panic!("initialiser ran"); }
    scope(|| {
        assert_eq!(N.with_value(Cell::new(2), || N.get()), 2);
        assert!(catch_unwind(|| N.get()).is_err());
    });
}

#[test]
fn with_value_puts_back_when_unwinding() {
    scope(|| {
        DEPTH.set(1);
        let result = catch_unwind(AssertUnwindSafe(|| {
            DEPTH.with_value(Cell::new(2), || {
                assert_eq!(DEPTH.get(), 2);
                panic!("on purpose")
            })
        }));
        assert!(result.is_err());
        assert_eq!(DEPTH.get(), 1);
    });
}

#[test]
fn with_value_puts_back_although_the_map_was_cleared() {
    scope(|| {
        DEPTH.set(1);
        HELD.with(|_| ());
        DEPTH.with_value(Cell::new(2), || {
            ctxlocal::clear();
            assert_eq!(take_log(), ["held"]);
            assert_eq!(DEPTH.get(), 0, "initialised afresh");
        });
        assert_eq!(DEPTH.get(), 1);
    });
}

#[test]
fn the_value_of_with_value_is_dropped_once_the_one_from_before_is_back() {
    struct Spy(&'static str, Cell<bool>);
    impl Drop for Spy {
        fn drop(&mut self) {
            if self.1.get() {
                LOG.with_borrow_mut(|log| log.push(SPY.with(|spy| spy.0)));
            }
        }
    }
    ctxlocal! { static SPY: Spy = Spy("outer", Cell::new(false)); }
    scope(|| {
        SPY.with(|_| ());
        SPY.with_value(Spy("inner", Cell::new(true)), || ());
        assert_eq!(take_log(), ["outer"]);
    });
}

#[test]
fn with_value_keeps_the_place_in_the_order_of_dropping() {
    scope(|| {
        FIRST.with(|_| ());
        HELD.with(|_| ());
        FIRST.with_value(Noisy("for a while"), || ());
        assert_eq!(take_log(), ["for a while"]);
    });
    assert_eq!(take_log(), ["held", "first"]);
}

#[test]
fn with_value_within_the_keys_own_initialiser_is_refused() {
    ctxlocal! { static N: u32 = N.with_value(1, || 2); }
    scope(|| {
        let panic = catch_unwind(|| N.with(|n| *n)).unwrap_err();
        assert!(panic.downcast::<String>().unwrap().contains("initialiser of `inheriting::"));
    });
}

#[test]
fn a_green_thread_that_shares_sees_the_value_of_with_value() {
    scope(|| {
        DEPTH.set(1);
        let mut green = Map::shared();
        DEPTH.with_value(Cell::new(2), || within(&mut green, || assert_eq!(DEPTH.get(), 2)));
        within(&mut green, || assert_eq!(DEPTH.get(), 1));
    });
}
