//! Who holds the hub for too long is named.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use greenlet::inspect::{Freezer, freezer, watch};
use greenlet::sync::Event;
use greenlet::{Builder, assert_yields, may_block, sleep, spawn, testing, yield_now};
use greenserve_tests::{eventually, in_time_of};

use crate::logs;

/// Looking up the names of functions for the first time reads through a large test program, on a machine that may be busy.
const NAMES: Duration = Duration::from_secs(180);
/// What is watched for in these tests, and what surely is longer.
const THRESHOLD: Duration = Duration::from_millis(50);
const TOO_LONG: Duration = Duration::from_millis(300);

#[inline(never)]
fn sleeps_natively(time: Duration) {
    thread::sleep(time);
    std::hint::black_box(());
}

#[inline(never)]
fn computes_in_a_circle(time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut rounds = 0;
    while Instant::now() < end {
        rounds = std::hint::black_box(rounds + 1);
    }
    rounds
}

/// The first line of what is logged of that greenlet, how often it is logged, and how often its end.
fn logged(name: &str) -> (Option<String>, usize, usize) {
    let lines = logs::of(&format!("'{name}'"));
    let holds = |line: &&String| line.contains(" holds the hub for ");
    (
        lines.iter().find(holds).cloned(),
        lines.iter().filter(holds).count(),
        lines.iter().filter(|line| line.contains(" has held the hub for ")).count(),
    )
}

fn named(name: &str, f: impl FnOnce() + 'static) {
    Builder::new().name(name).spawn(f).unwrap().join().unwrap();
}

#[test]
fn who_sleeps_natively_is_named_once_with_its_stack_and_then_with_the_total() {
    logs::collect();
    in_time_of(NAMES, || {
        let _monitor = watch(THRESHOLD).unwrap();
        named("sleeps-natively", || sleeps_natively(TOO_LONG));
        eventually(NAMES, || logged("sleeps-natively").2 == 1);
        let (told, times, _) = logged("sleeps-natively");
        let told = told.unwrap();
        assert_eq!(times, 1);
        assert!(told.starts_with("WARN greenlet 'sleeps-natively' (#1), spawned at "), "{told}");
        assert!(told.contains("monitor.rs:") && told.contains("sleeps_natively"), "{told}");
        assert!(
            told.lines().all(|line| !line.contains("greenlet::job") && !line.contains("greenlet::monitor")),
            "{told}"
        );
    });
}

#[test]
fn who_computes_is_named_with_the_function_it_is_in() {
    logs::collect();
    in_time_of(NAMES, || {
        let _monitor = watch(THRESHOLD).unwrap();
        named("computes", || assert_ne!(computes_in_a_circle(TOO_LONG), 0));
        eventually(NAMES, || logged("computes").1 == 1);
        let told = logged("computes").0.unwrap();
        assert!(told.contains("computes_in_a_circle"), "{told}");
    });
}

#[test]
fn each_blockage_is_told_of_and_not_only_the_first() {
    logs::collect();
    in_time_of(NAMES, || {
        let _monitor = watch(THRESHOLD).unwrap();
        named("blocks-twice", || {
            sleeps_natively(TOO_LONG);
            sleep(Duration::from_millis(50));
            sleeps_natively(TOO_LONG);
        });
        eventually(NAMES, || logged("blocks-twice").2 == 2);
        assert_eq!(logged("blocks-twice").1, 2);
    });
}

#[test]
fn a_small_stack_has_room_enough_for_it() {
    logs::collect();
    in_time_of(NAMES, || {
        let _monitor = watch(THRESHOLD).unwrap();
        let small = Builder::new().name("small-stack").stack_size(32 * 1024);
        small.spawn(|| sleeps_natively(TOO_LONG)).unwrap().join().unwrap();
        eventually(NAMES, || logged("small-stack").1 == 1);
    });
}

#[test]
fn may_block_silences_it_for_whoever_asks_and_for_as_long() {
    logs::collect();
    in_time_of(NAMES, || {
        let _monitor = watch(THRESHOLD).unwrap();
        named("may-block", || {
            may_block(|| {
                sleeps_natively(TOO_LONG);
                may_block(|| sleeps_natively(TOO_LONG));
                sleeps_natively(TOO_LONG);
                // another runs in between, and is told of
                let other = Builder::new().name("may-not-block").spawn(|| sleeps_natively(TOO_LONG)).unwrap();
                other.join().unwrap();
                sleeps_natively(TOO_LONG);
            });
        });
        eventually(NAMES, || logged("may-not-block").2 == 1);
        assert_eq!(logged("may-block"), (None, 0, 0));
        named("may-block-no-more", || {
            may_block(|| ());
            sleeps_natively(TOO_LONG);
        });
        eventually(NAMES, || logged("may-block-no-more").1 == 1);
    });
}

#[test]
fn may_block_ends_with_a_panic_too_and_works_where_there_is_no_hub() {
    assert_eq!(thread::spawn(|| may_block(|| 7)).join().unwrap(), 7);
    in_time_of(NAMES, || {
        let failed = greenlet::catch_panic(|| may_block(|| panic!("as it was asked to")));
        assert!(failed.is_err());
        let held = greenlet::catch_panic(|| assert_yields(THRESHOLD, || sleeps_natively(TOO_LONG)));
        assert!(held.is_err(), "the region is over");
    });
}

#[test]
fn a_hub_that_idles_or_is_busy_with_many_is_not_told_of() {
    in_time_of(NAMES, || {
        assert_yields(TOO_LONG, || {
            sleep(2 * TOO_LONG);
            let end = Instant::now() + 2 * TOO_LONG;
            let many: Vec<_> = (0..20)
                .map(|_| {
                    spawn(move || {
                        while Instant::now() < end {
                            yield_now();
                        }
                    })
                })
                .collect();
            greenlet::join_all(&many, None).unwrap();
        });
    });
}

#[test]
fn main_is_watched_as_others_are_while_the_guard_lives() {
    in_time_of(NAMES, || {
        let event = Rc::new(Event::new());
        let held = greenlet::catch_panic(|| {
            assert_yields(THRESHOLD, || {
                yield_now();
                sleeps_natively(TOO_LONG);
                event.set();
                yield_now();
            })
        });
        let message = held.unwrap_err().message().to_owned();
        assert!(event.is_set(), "it fails at the end");
        assert!(
            message.contains("'main' (#0) holds the hub for") && message.contains("sleeps_natively"),
            "{message}"
        );
    });
}

#[test]
fn a_dropped_guard_watches_no_more() {
    logs::collect();
    in_time_of(NAMES, || {
        drop(watch(THRESHOLD).unwrap());
        named("not-watched", || sleeps_natively(TOO_LONG));
        named("watched-by-two", || {
            let _two = (watch(THRESHOLD).unwrap(), watch(THRESHOLD).unwrap());
            sleeps_natively(TOO_LONG);
        });
        eventually(NAMES, || logged("watched-by-two").2 == 2);
        assert_eq!(logged("not-watched"), (None, 0, 0));
    });
}

#[test]
fn assert_yields_gives_the_value_of_code_that_yields() {
    in_time_of(NAMES, || {
        let value = assert_yields(TOO_LONG, || {
            (0..10).for_each(|_| sleep(Duration::from_millis(1)));
            42
        });
        assert_eq!(value, 42);
        assert_eq!(assert_yields(THRESHOLD, || may_block(|| sleeps_natively(TOO_LONG))), ());
    });
}

#[test]
fn assert_yields_lets_a_panic_pass() {
    in_time_of(NAMES, || {
        let panic = greenlet::catch_panic(|| assert_yields(THRESHOLD, || panic!("of its own"))).unwrap_err();
        assert_eq!(panic.message(), "of its own");
    });
}

#[test]
fn a_run_in_virtual_time_is_not_watched_but_assert_yields_holds_there_too() {
    logs::collect();
    testing::run(1, || {
        let _monitor = watch(THRESHOLD).unwrap();
        named("in-virtual-time", || sleeps_natively(TOO_LONG));
        assert_yields(TOO_LONG, || sleep(Duration::from_secs(3600)));
        let held = greenlet::catch_panic(|| {
            assert_yields(THRESHOLD, || named("held-in-virtual-time", || sleeps_natively(TOO_LONG)))
        });
        assert!(held.unwrap_err().message().contains("'held-in-virtual-time'"));
    });
    assert_eq!(logged("in-virtual-time"), (None, 0, 0));
}

#[test]
fn two_hubs_are_told_apart() {
    logs::collect();
    let of = |name: &'static str, other: fn(Duration)| {
        thread::spawn(move || {
            in_time_of(NAMES, move || {
                let _monitor = watch(THRESHOLD).unwrap();
                named(name, move || other(TOO_LONG));
                eventually(NAMES, || logged(name).2 == 1);
            });
        })
    };
    let threads =
        [of("hub-one", sleeps_natively), of("hub-two", |time| assert_ne!(computes_in_a_circle(time), 0))];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let told = ["hub-one", "hub-two"].map(|name| logged(name).0.unwrap());
    assert!(told[0].contains("sleeps_natively") && !told[0].contains("computes_in_a_circle"), "{}", told[0]);
    assert!(told[1].contains("computes_in_a_circle") && !told[1].contains("sleeps_natively"), "{}", told[1]);
}

#[test]
fn a_thread_that_ends_while_it_is_watched_is_forgotten() {
    thread::spawn(|| std::mem::forget(watch(Duration::from_millis(1)).unwrap())).join().unwrap();
    in_time_of(NAMES, || assert_yields(TOO_LONG, || sleep(THRESHOLD)));
}

/// Unwinds, allocates and formats for some milliseconds; gives the same whatever else happens.
fn busy(rounds: u32) -> usize {
    let end = Instant::now() + Duration::from_millis(4);
    let mut length = 0;
    for round in 0.. {
        let caught = greenlet::catch_panic(|| -> () { std::panic::resume_unwind(Box::new(round)) });
        assert!(caught.is_err());
        let text: Vec<String> = (0..rounds).map(|n| format!("{n}")).collect();
        length = text.concat().len();
        if Instant::now() > end {
            break;
        }
    }
    length
}

#[test]
fn a_thread_that_is_asked_at_any_point_goes_on_unharmed() {
    in_time_of(NAMES, || {
        let told = greenlet::catch_panic(|| {
            assert_yields(Duration::from_millis(1), || {
                for _ in 0..100 {
                    let small = Builder::new().stack_size(64 * 1024);
                    assert_eq!(small.spawn(|| busy(100)).unwrap().join().unwrap(), 190);
                }
            })
        });
        // they were interrupted, and by far not all are kept
        let told = told.unwrap_err().message().to_owned();
        assert_eq!(told.matches(" holds the hub for ").count(), 8, "{told}");
    });
}

#[inline(never)]
fn parks_for_long() {
    sleep(Duration::from_secs(3600));
    std::hint::black_box(());
}

/// Runs `f` in a thread that ends or not, and gives what freezes its hub.
fn freezer_of(f: impl FnOnce() + Send + 'static) -> Freezer {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        tell.send(freezer().unwrap()).unwrap();
        f();
    });
    told.recv().unwrap()
}

#[test]
fn a_frozen_hub_tells_who_blocks_it_and_who_waits() {
    let (tell, blocks) = std::sync::mpsc::channel();
    let freezer = freezer_of(move || {
        let sleepers: Vec<_> =
            ["ada", "eve"].map(|name| Builder::new().name(name).spawn(parks_for_long).unwrap()).into();
        yield_now();
        named("blocks", move || {
            tell.send(()).unwrap();
            sleeps_natively(Duration::from_secs(3600));
        });
        drop(sleepers);
    });
    blocks.recv().unwrap();
    // Not a moment in which it is still on its way there.
    thread::sleep(TOO_LONG);
    let frozen = freezer.freeze().unwrap();
    let running = frozen.running();
    assert!(running.starts_with("greenlet 'blocks' (#3), spawned at "), "{running}");
    assert!(running.contains("sleeps_natively") && !running.contains("greenlet::job"), "{running}");
    let others = frozen.others(100).unwrap();
    assert!(others.contains("'ada' (#1) sleeps since") && others.contains("'eve' (#2)"), "{others}");
    assert_eq!(others.matches("parks_for_long").count(), 2, "{others}");
    assert!(!others.contains("'blocks'"), "{others}");
    let fewer = frozen.others(1).unwrap();
    assert!(fewer.contains("'ada'") && fewer.ends_with("and 1 more\n"), "{fewer}");
}

#[test]
fn a_frozen_hub_that_waits_for_events_tells_who_waits() {
    let freezer = freezer_of(parks_for_long_beside_another);
    // Not a moment in which it is still on its way there.
    thread::sleep(TOO_LONG);
    let frozen = freezer.freeze().unwrap();
    assert!(frozen.running().starts_with("no greenlet runs"), "{}", frozen.running());
    assert!(frozen.others(100).unwrap().contains("parks_for_long"), "{frozen:?}");
}

fn parks_for_long_beside_another() {
    let _other = Builder::new().name("other").spawn(parks_for_long).unwrap();
    parks_for_long();
}

#[test]
fn a_hub_that_has_ended_cannot_be_frozen() {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || tell.send(freezer().unwrap()).unwrap());
    let freezer = told.recv().unwrap();
    thread.join().unwrap();
    assert!(freezer.freeze().is_none());
}
