//! Sleeping.

use std::cell::Cell;
use std::ffi::c_int;
use std::rc::Rc;

use greenserve_tests::c;

use crate::meanwhile;

#[test]
fn nanosleep_in_c_parks_the_greenlet() {
    let library = c::load(
        r"
        #include <time.h>
        int snooze(long nanos) { struct timespec t = { nanos / 1000000000, nanos % 1000000000 }; return nanosleep(&t, 0); }
        ",
    );
    // SAFETY: as written above.
    let snooze = unsafe { library.function::<extern "C" fn(i64) -> c_int>("snooze") };
    let result = Rc::new(Cell::new(None));
    let (slot, job) = (result.clone(), move || snooze(20_000_000));
    meanwhile(move || slot.set(Some(job())));
    assert_eq!(result.get(), Some(0));
}
