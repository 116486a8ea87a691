//! A hundred thousand greenlets asleep at once. In a process of its own, so that its memory is theirs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::Event;
use greenserve_tests::Proc;

const GREENLETS: usize = 100_000;

/// What each may keep resident, as the project promises: its record and one page of stack.
const BYTES_EACH: u64 = 5_000;

#[test]
fn a_hundred_thousand_greenlets_sleep_at_once_at_under_5_kb_each() {
    let asleep = Rc::new(Cell::new(0usize));
    let awake = Rc::new(Cell::new(0usize));
    let wake_up = Rc::new(Event::new());
    // whatever the runtime needs once is there before the measurement
    greenlet::spawn(|| greenlet::sleep(Duration::from_millis(1))).join().unwrap();
    let me = Proc::current();
    let (memory, mappings, threads) = (me.resident(), me.mappings(), me.threads());

    for n in 0..GREENLETS {
        let (asleep, awake, wake_up) = (Rc::clone(&asleep), Rc::clone(&awake), Rc::clone(&wake_up));
        greenlet::spawn(move || {
            asleep.set(asleep.get() + 1);
            if n % 2 == 0 {
                wake_up.wait().unwrap();
            } else {
                wake_up.wait_timeout(Duration::from_secs(3600)).unwrap();
            }
            awake.set(awake.get() + 1);
        });
    }
    while asleep.get() < GREENLETS {
        greenlet::yield_now();
    }
    assert_eq!(greenlet::stats().greenlets, GREENLETS);
    let each = (me.resident() - memory) / GREENLETS as u64;
    println!("{each} bytes resident each, {} mappings more", me.mappings() - mappings);
    assert!(each < BYTES_EACH, "{each} bytes resident each");
    assert!(me.mappings() < mappings + 5_000, "far below the limit on mappings: {}", me.mappings());
    assert_eq!(me.threads(), threads);
    assert_eq!(awake.get(), 0);

    wake_up.set();
    while awake.get() < GREENLETS {
        greenlet::yield_now();
    }
    while greenlet::stats().greenlets > 0 {
        greenlet::yield_now();
    }
}
