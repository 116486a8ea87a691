//! Stacks as a program sees them: what a deep call has used is given back while its green thread lies idle.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::Event;
use greenlet::{sleep, spawn};
use greenserve_tests::in_time;

/// Uses about `kib` kilobytes of stack.
#[inline(never)]
fn dig(kib: usize) -> usize {
    let frame = black_box([kib as u8; 1024]);
    if kib == 0 { 0 } else { usize::from(frame[kib % 1024] != 0) + dig(kib - 1) }
}

#[test]
fn one_that_lies_idle_gives_back_what_a_deep_call_has_used_and_goes_on_unharmed() {
    in_time(|| {
        let go_on = Rc::new(Event::new());
        let deep = spawn({
            let go_on = Rc::clone(&go_on);
            move || {
                let kept = dig(100);
                go_on.wait().unwrap();
                kept + dig(50)
            }
        });
        sleep(Duration::from_millis(1));
        let used = deep.stack_used().unwrap();
        assert!(used >= 100 * 1024, "{used} bytes");
        while deep.stack_used().unwrap() > 16 * 1024 {
            sleep(Duration::from_millis(50));
        }
        go_on.set();
        assert_eq!(deep.join().unwrap(), 150);
        assert_eq!(deep.stack_used(), None, "it has ended");
    });
}
