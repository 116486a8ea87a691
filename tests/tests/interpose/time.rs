//! Sleeping.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use greenserve_tests::c;

use crate::meanwhile;

/// The calls, as C code makes them, so that what is loaded later is shown as well. Errors come as `-errno`.
struct Calls {
    nanosleep: extern "C" fn(i64, i64) -> c_int,
    clock_nanosleep: extern "C" fn(c_int, c_int, i64, i64) -> c_int,
    after: extern "C" fn(c_int, i64) -> c_int,
    usleep: extern "C" fn(c_uint) -> c_int,
    sleep: extern "C" fn(c_uint) -> c_uint,
    thrd_sleep: extern "C" fn(i64, i64) -> c_int,
    null: extern "C" fn() -> c_int,
}

static C: LazyLock<Calls> = LazyLock::new(|| {
    let library = c::load(
        r"
        #include <errno.h>
        #include <threads.h>
        #include <time.h>
        #include <unistd.h>
        static int result(int r) { return r < 0 ? -errno : r; }
        int c_nanosleep(long s, long n) { struct timespec t = { s, n }; return result(nanosleep(&t, &t)); }
        int c_clock_nanosleep(int clock, int flags, long s, long n) {
            struct timespec t = { s, n };
            errno = 77;
            int r = clock_nanosleep(clock, flags, &t, 0);
            return errno == 77 ? r : -1;
        }
        int c_after(int clock, long nanos) {
            struct timespec t;
            if (clock_gettime(clock, &t)) return -errno;
            nanos += t.tv_nsec;
            t.tv_sec += nanos / 1000000000;
            t.tv_nsec = nanos % 1000000000;
            struct timespec until = t;
            int r = clock_nanosleep(clock, TIMER_ABSTIME, &t, 0);
            if (r) return r;
            clock_gettime(clock, &t);
            return t.tv_sec > until.tv_sec || (t.tv_sec == until.tv_sec && t.tv_nsec >= until.tv_nsec) ? 0 : -1;
        }
        int c_usleep(unsigned n) { return result(usleep(n)); }
        unsigned c_sleep(unsigned n) { errno = 77; unsigned left = sleep(n); return left || errno == 77 ? left : 99; }
        int c_thrd_sleep(long s, long n) { struct timespec t = { s, n }; return thrd_sleep(&t, 0); }
        int c_null(void) { const struct timespec *volatile none = 0; return result(nanosleep((void *)none, 0)); }
        ",
    );
    // SAFETY: as written above.
    unsafe {
        Calls {
            nanosleep: library.function("c_nanosleep"),
            clock_nanosleep: library.function("c_clock_nanosleep"),
            after: library.function("c_after"),
            usleep: library.function("c_usleep"),
            sleep: library.function("c_sleep"),
            thrd_sleep: library.function("c_thrd_sleep"),
            null: library.function("c_null"),
        }
    }
});

/// As the one of all tests. The code is compiled and loaded before, and not in a greenlet.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    LazyLock::force(&C);
    greenserve_tests::in_time(f)
}

const MOMENT: i64 = 20_000_000;

/// `sleeps` parks the greenlet, and ends well; on a thread without a hub it does, too.
fn sleeps<T: PartialEq + std::fmt::Debug + Send + 'static>(
    ends_with: T,
    sleeps: impl Fn() -> T + Send + Copy + 'static,
) {
    in_time(move || {
        let begin = Instant::now();
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        meanwhile(move || *slot.borrow_mut() = Some(sleeps()));
        assert_eq!(result.borrow().as_ref(), Some(&ends_with));
        assert_eq!(std::thread::spawn(sleeps).join().unwrap(), ends_with, "without a hub");
        assert!(begin.elapsed() >= Duration::from_millis(20), "{:?}", begin.elapsed());
    });
}

#[test]
fn nanosleep_in_c_parks_the_greenlet() {
    sleeps(0, || (C.nanosleep)(0, MOMENT));
}

#[test]
fn clock_nanosleep_parks_the_greenlet_by_any_clock() {
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_TAI, libc::CLOCK_BOOTTIME] {
        sleeps(0, move || (C.clock_nanosleep)(clock, 0, 0, MOMENT));
        sleeps(0, move || (C.after)(clock, MOMENT));
    }
}

#[test]
fn a_sleep_by_the_processors_time_lets_it_be_spent() {
    in_time(|| {
        let sleeper = greenlet::spawn(|| (C.after)(libc::CLOCK_PROCESS_CPUTIME_ID, 5_000_000));
        // Were the thread stopped, nobody might spend any.
        while !sleeper.is_dead() {
            greenlet::yield_now();
        }
        assert_eq!(sleeper.join().unwrap(), 0);
    });
}

#[test]
fn usleep_parks_the_greenlet() {
    sleeps(0, || (C.usleep)(20_000));
}

#[test]
fn sleep_parks_the_greenlet() {
    sleeps(0, || (C.sleep)(1));
    assert_eq!((C.sleep)(0), 0);
}

#[test]
fn thrd_sleep_parks_the_greenlet() {
    sleeps(0, || (C.thrd_sleep)(0, MOMENT));
}

#[test]
fn std_sleeps_park_the_greenlet() {
    sleeps((), || std::thread::sleep(Duration::from_millis(20)));
}

#[test]
fn a_hundred_sleepers_take_as_long_as_one() {
    in_time(|| {
        let begin = Instant::now();
        let sleepers: Vec<_> =
            (0..100).map(|_| greenlet::spawn(|| std::thread::sleep(Duration::from_millis(500)))).collect();
        greenlet::join_all(&sleepers, None).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(25), "one after the other: {:?}", begin.elapsed());
    });
}

#[test]
fn in_a_simulation_sleeps_take_no_time() {
    in_time(|| {
        greenlet::testing::run(1, || {
            let hour = Duration::from_secs(3600);
            let sleepers = [
                greenlet::spawn(move || std::thread::sleep(hour)),
                greenlet::spawn(|| assert_eq!((C.sleep)(3600), 0)),
                greenlet::spawn(|| assert_eq!((C.after)(libc::CLOCK_MONOTONIC, 3_600_000_000_000), -1)),
            ];
            greenlet::join_all(&sleepers, None).unwrap();
            let took = greenlet::testing::elapsed();
            assert!(took > hour - Duration::from_secs(60) && took <= hour, "{took:?}");
        });
    });
}

#[test]
fn what_is_no_time_is_refused_as_the_kernel_does() {
    in_time(|| {
        let wrong = || {
            assert_eq!((C.nanosleep)(0, 1_000_000_000), -libc::EINVAL);
            assert_eq!((C.nanosleep)(-1, 0), -libc::EINVAL);
            assert_eq!((C.null)(), -libc::EFAULT);
            assert_eq!((C.clock_nanosleep)(libc::CLOCK_MONOTONIC, 0, 0, -1), libc::EINVAL);
            assert_eq!((C.clock_nanosleep)(libc::CLOCK_THREAD_CPUTIME_ID, 0, 0, 1), libc::EINVAL);
            assert_eq!((C.clock_nanosleep)(12345, 0, 0, 1), libc::EINVAL);
            assert_eq!((C.thrd_sleep)(0, -1), -2);
            // A time that has been.
            assert_eq!((C.clock_nanosleep)(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, 0, 0), 0);
            assert_eq!((C.clock_nanosleep)(libc::CLOCK_REALTIME, libc::TIMER_ABSTIME, 1, 0), 0);
        };
        std::thread::spawn(wrong).join().unwrap();
        greenlet::spawn(wrong).join().unwrap();
    });
}

#[test]
fn a_kill_ends_a_sleep_early_and_only_sleep_tells() {
    in_time(|| {
        for (job, expected) in [
            ((|| i64::from((C.nanosleep)(3600, 0))) as fn() -> i64, 0..=0),
            (|| i64::from((C.clock_nanosleep)(libc::CLOCK_MONOTONIC, 0, 3600, 0)), 0..=0),
            (|| i64::from((C.after)(libc::CLOCK_REALTIME, 3_600_000_000_000)), -1..=-1),
            (|| i64::from((C.usleep)(3_600_000_000)), 0..=0),
            (|| i64::from((C.sleep)(3600)), 3000..=3600),
        ] {
            let result = Rc::new(Cell::new(None));
            let slot = result.clone();
            let sleeper = greenlet::spawn(move || slot.set(Some(job())));
            greenlet::yield_now();
            sleeper.kill().unwrap();
            let got = result.get().expect("it ends its call");
            assert!(expected.contains(&got), "{got}");
        }
    });
}

#[test]
fn where_blocking_is_asked_for_sleeps_are_plain() {
    in_time(|| {
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        let sleeper = greenlet::spawn(move || {
            greenlet::may_block(|| assert_eq!((C.nanosleep)(0, MOMENT), 0));
            greenlet::may_block(|| assert_eq!((C.after)(libc::CLOCK_REALTIME, MOMENT), 0));
            seen.get()
        });
        greenlet::spawn(move || ran.set(true));
        assert!(!sleeper.join().unwrap(), "somebody else ran meanwhile");
    });
}
