//! What a runtime relies on: maps exchanged at any moment, in the middle of scopes, initialisers and destructors.
//!
//! A second green thread is played by `elsewhere`, which runs a closure on its map: a switch there and back at any
//! point where a real runtime could make one.

use std::cell::{Cell, RefCell};

use ctxlocal::{Map, ctxlocal, dynamic, scope, swap};

ctxlocal! {
    static N: Cell<u32> = Cell::new(0);
}

/// Runs `f` as another green thread would run it while the caller is switched out.
fn elsewhere<R>(map: &mut Map, f: impl FnOnce() -> R) -> R {
    swap(map);
    let result = f();
    swap(map);
    result
}

#[test]
fn each_map_keeps_its_own_values() {
    let (mut a, mut b) = (Map::new(), Map::default());
    N.set(1);
    elsewhere(&mut a, || N.set(10));
    elsewhere(&mut b, || assert_eq!(N.replace(20), 0));
    elsewhere(&mut a, || assert_eq!(N.get(), 10));
    elsewhere(&mut b, || assert_eq!(N.get(), 20));
    assert_eq!(N.get(), 1);
}

#[test]
fn a_map_is_empty_until_it_has_a_value() {
    let mut map = Map::new();
    elsewhere(&mut map, || assert!(!dynamic::contains("x")));
    assert!(map.is_empty());
    elsewhere(&mut map, || dynamic::set("x", 1));
    assert!(!map.is_empty());
    elsewhere(&mut map, || assert!(dynamic::remove("x")));
    assert!(map.is_empty());
}

#[test]
fn a_green_thread_in_a_scope_may_be_switched_out_and_in() {
    let mut other = Map::new();
    N.set(1);
    scope(|| {
        N.set(2);
        elsewhere(&mut other, || {
            N.set(3);
            scope(|| {
                assert_eq!(N.get(), 0);
                N.set(4);
            });
            assert_eq!(N.get(), 3);
        });
        assert_eq!(N.get(), 2);
    });
    assert_eq!(N.get(), 1);
}

#[test]
fn scopes_of_two_green_threads_may_end_in_any_order() {
    // Two green threads on the stacks of two closures would need a runtime; their maps are all that matters here.
    // `mine` and `theirs` stand for the records in which the runtime keeps the map of who is switched out.
    let mut theirs = Map::new();
    N.set(1);
    scope(|| {
        N.set(2);
        swap(&mut theirs); // to the other, which enters a scope of its own …
        N.set(3);
        let mut their_outer = Map::new();
        swap(&mut their_outer);
        N.set(4);
        swap(&mut theirs); // … and is switched out in it
        assert_eq!(N.get(), 2);
        elsewhere(&mut theirs, || assert_eq!(N.get(), 4));
        elsewhere(&mut their_outer, || assert_eq!(N.get(), 3));
    });
    assert_eq!(N.get(), 1);
    elsewhere(&mut theirs, || assert_eq!(N.get(), 4));
}

#[test]
fn a_switch_inside_an_initialiser_keeps_both_sides_apart() {
    thread_local!(static OTHER: RefCell<Map> = const { RefCell::new(Map::new()) });
    ctxlocal! {
        static SLOW: u32 = {
            let mut other = OTHER.take();
            // the other green thread initialises the same key meanwhile: not a recursion
            if !dynamic::contains("quick") {
                elsewhere(&mut other, || {
                    dynamic::set("quick", true);
                    SLOW.with(|n| assert_eq!(*n, 2));
                });
                OTHER.set(other);
                1
            } else {
                2
            }
        };
    }
    scope(|| {
        SLOW.with(|n| assert_eq!(*n, 1));
        SLOW.with(|n| assert_eq!(*n, 1));
    });
    let mut other = OTHER.take();
    elsewhere(&mut other, || SLOW.with(|n| assert_eq!(*n, 2)));
}

#[test]
fn a_switch_inside_a_destructor_keeps_both_sides_apart() {
    thread_local!(static SEEN: Cell<u32> = const { Cell::new(0) });
    struct Parks;
    impl Drop for Parks {
        fn drop(&mut self) {
            let mut other = Map::new();
            elsewhere(&mut other, || N.set(50));
            SEEN.set(N.get());
            drop(other);
            assert_eq!(N.get(), 7);
        }
    }
    ctxlocal! { static PARKS: Parks = Parks; }
    N.set(1);
    scope(|| {
        N.set(7);
        PARKS.with(|_| ());
    });
    assert_eq!((SEEN.get(), N.get()), (7, 1));
}

#[test]
fn a_dropped_map_drops_its_values_in_itself() {
    thread_local!(static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });
    struct Looks;
    impl Drop for Looks {
        fn drop(&mut self) {
            SEEN.with_borrow_mut(|seen| seen.push(N.get()));
        }
    }
    let mut map = Map::new();
    N.set(1);
    elsewhere(&mut map, || {
        N.set(5);
        dynamic::set("a", Looks);
        dynamic::set("b", Looks);
    });
    drop(map);
    assert_eq!(SEEN.take(), [5, 5]);
    assert_eq!(N.get(), 1);
}

#[test]
fn replacing_a_dynamic_value_drops_the_old_one_and_counts_as_new() {
    thread_local!(static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });
    struct Looks(u32);
    impl Drop for Looks {
        fn drop(&mut self) {
            SEEN.with_borrow_mut(|seen| seen.push(self.0));
        }
    }
    scope(|| {
        dynamic::set("a", Looks(1));
        dynamic::set("b", Looks(2));
        dynamic::set("a", Looks(3));
        dynamic::with("a", |a: &Looks| {
            assert!(dynamic::remove("a"));
            assert_eq!(a.0, 3);
            SEEN.with_borrow(|seen| assert_eq!(*seen, [1]));
        })
        .unwrap();
        dynamic::set("a", Looks(4));
    });
    assert_eq!(SEEN.take(), [1, 3, 4, 2]);
}
