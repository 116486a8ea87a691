//! futex(2) by `syscall`. What counts wake-ups has a process of its own: the end of another test's hub may wake everybody once, for
//! nothing.

use std::cell::Cell;
use std::ffi::{c_int, c_long};
use std::io;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenlet::{sleep, spawn, yield_now};
use greenserve_tests::{c, in_process, in_time};
use libc::{FUTEX_PRIVATE_FLAG, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, timespec};

use crate::meanwhile;

const ANY: u32 = u32::MAX;

fn result(result: c_long) -> Result<c_long, i32> {
    match result {
        -1 => Err(io::Error::last_os_error().raw_os_error().unwrap()),
        _ => Ok(result),
    }
}

fn call(
    word: &AtomicU32,
    operation: c_int,
    value: u32,
    time: Option<timespec>,
    bits: u32,
) -> Result<c_long, i32> {
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the time live for as long as the call lasts.
    result(unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, time, ptr::null::<u32>(), bits)
    })
}

fn wait(word: &AtomicU32, value: u32) -> Result<c_long, i32> {
    call(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, None, 0)
}

fn wake(word: &AtomicU32, count: u32) -> c_long {
    call(word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, None, 0).unwrap()
}

fn span(duration: Duration) -> timespec {
    timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos().into() }
}

fn from_now(clock: libc::clockid_t, duration: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is there for it to write to.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    span(Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + duration)
}

#[test]
fn a_wait_ends_by_a_wake_of_another_greenlet_or_thread() {
    in_time(|| {
        let word = Arc::new(AtomicU32::new(5));
        let waiting = {
            let word = word.clone();
            spawn(move || wait(&word, 5))
        };
        yield_now();
        assert_eq!(wake(&word, 1), 1);
        assert_eq!(waiting.join().unwrap(), Ok(0));

        let other = word.clone();
        let waking = thread::spawn(move || {
            while wake(&other, 1) == 0 {
                thread::yield_now();
            }
        });
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        spawn(move || seen.set(true));
        assert_eq!(wait(&word, 5), Ok(0));
        assert!(ran.get());
        waking.join().unwrap();
    });
}

#[test]
fn a_wake_counts_greenlets_and_threads_together() {
    in_process("futex::a_wake_counts_greenlets_and_threads_together", || {
        let word = Arc::new(AtomicU32::new(1));
        let done = Arc::new(AtomicU32::new(0));
        let job = || {
            let (word, done) = (word.clone(), done.clone());
            move || {
                assert_eq!(wait(&word, 1), Ok(0));
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        let greenlets: Vec<_> = (0..3).map(|_| spawn(job())).collect();
        yield_now();
        let thread = thread::spawn(job());
        sleep(Duration::from_millis(20));
        assert_eq!(wake(&word, 2), 2);
        sleep(Duration::from_millis(1));
        assert_eq!(done.load(Ordering::SeqCst), 2);
        // The thread may not have got as far yet.
        let mut woken = 0;
        while woken < 2 {
            woken += wake(&word, i32::MAX as u32);
            sleep(Duration::from_millis(1));
        }
        assert_eq!(woken, 2);
        greenlets.iter().for_each(|greenlet| greenlet.join().unwrap());
        thread.join().unwrap();
        assert_eq!(wake(&word, 1), 0);
    });
}

#[test]
fn a_wake_of_some_bits_leaves_the_others() {
    in_process("futex::a_wake_of_some_bits_leaves_the_others", || {
        let word = Rc::new(AtomicU32::new(1));
        let order = Rc::new(Cell::new(0));
        let greenlets: Vec<_> = [1, 2, 6]
            .map(|bits| {
                let (word, order) = (word.clone(), order.clone());
                spawn(move || {
                    assert_eq!(call(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 1, None, bits), Ok(0));
                    order.set(order.get() * 10 + bits);
                })
            })
            .into();
        yield_now();
        let wake = |bits| call(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 10, None, bits).unwrap();
        assert_eq!(wake(8), 0);
        assert_eq!(wake(4), 1);
        yield_now();
        assert_eq!(wake(3), 2);
        greenlets.iter().for_each(|greenlet| greenlet.join().unwrap());
        assert_eq!(order.get(), 612);
    });
}

/// What is the same in a greenlet and on a thread.
fn without_anybody_else() {
    let word = AtomicU32::new(1);
    assert_eq!(wait(&word, 2), Err(libc::EAGAIN));
    let least = Duration::from_millis(10);
    let private = FUTEX_PRIVATE_FLAG;
    for shared in [0, private] {
        for (operation, time) in [
            (FUTEX_WAIT, span(least)),
            (FUTEX_WAIT_BITSET, from_now(libc::CLOCK_MONOTONIC, least)),
            (FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME, from_now(libc::CLOCK_REALTIME, least)),
        ] {
            let begin = Instant::now();
            let time = match operation {
                FUTEX_WAIT => time,
                FUTEX_WAIT_BITSET => from_now(libc::CLOCK_MONOTONIC, least),
                _ => from_now(libc::CLOCK_REALTIME, least),
            };
            assert_eq!(call(&word, operation | shared, 1, Some(time), ANY), Err(libc::ETIMEDOUT));
            assert!(begin.elapsed() + Duration::from_millis(1) >= least, "too early");
        }
        let past = timespec { tv_sec: 1, tv_nsec: 0 };
        assert_eq!(call(&word, FUTEX_WAIT_BITSET | shared, 1, Some(past), ANY), Err(libc::ETIMEDOUT));
        let wrong = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        assert_eq!(call(&word, FUTEX_WAIT | shared, 1, Some(wrong), 0), Err(libc::EINVAL));
        assert_eq!(call(&word, FUTEX_WAIT_BITSET | shared, 1, None, 0), Err(libc::EINVAL));
        assert_eq!(call(&word, FUTEX_WAKE_BITSET | shared, 1, None, 0), Err(libc::EINVAL));
    }
    // SAFETY: the kernel refuses words that are not aligned, and null.
    let odd =
        |address: usize| unsafe { libc::syscall(libc::SYS_futex, address, FUTEX_WAIT | private, 0, 0_usize) };
    assert_eq!(result(odd(word.as_ptr().addr() + 1)), Err(libc::EINVAL));
    assert_eq!(result(odd(0)), Err(libc::EFAULT));
    // Other calls, and their errors.
    // SAFETY: they take no pointers.
    unsafe {
        assert_eq!(result(libc::syscall(libc::SYS_getpid)), Ok(libc::getpid().into()));
        assert_eq!(result(libc::syscall(libc::SYS_close, -1)), Err(libc::EBADF));
        assert_eq!(result(libc::syscall(100_000)), Err(libc::ENOSYS));
        // What succeeds leaves errno alone.
        *libc::__errno_location() = 77;
        assert_eq!(wake(&word, 1), 0);
        assert_eq!(*libc::__errno_location(), 77);
    }
}

#[test]
fn errors_and_timeouts_are_the_kernels_in_a_greenlet_and_out_of_it() {
    in_process("futex::errors_and_timeouts_are_the_kernels_in_a_greenlet_and_out_of_it", || {
        std::thread::spawn(without_anybody_else).join().unwrap();
        spawn(without_anybody_else).join().unwrap();
    });
}

#[test]
fn a_timed_wait_lets_others_run() {
    in_time(|| {
        for operation in [FUTEX_WAIT | FUTEX_PRIVATE_FLAG, FUTEX_WAIT] {
            meanwhile(move || {
                let time = Some(span(Duration::from_millis(20)));
                assert_eq!(call(&AtomicU32::new(1), operation, 1, time, ANY), Err(libc::ETIMEDOUT));
            });
        }
    });
}

#[test]
fn a_word_that_processes_may_share_is_waited_for_on_another_thread() {
    in_time(|| {
        let word = Arc::new(AtomicU32::new(1));
        let other = word.clone();
        let waiting = spawn(move || call(&other, FUTEX_WAIT, 1, None, 0));
        let waking = spawn(move || {
            while call(&word, FUTEX_WAKE, 1, None, 0) == Ok(0) {
                sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(waiting.join().unwrap(), Ok(0));
        waking.join().unwrap();
    });
}

#[test]
fn c_code_reaches_it_by_syscall() {
    let library = c::load(
        r"
        #define _GNU_SOURCE
        #include <linux/futex.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static unsigned word = 1;
        long hold(void) { return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, 0); }
        long let_go(void) { return syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1); }
        ",
    );
    // SAFETY: as written above.
    let (hold, let_go) = unsafe {
        (
            library.function::<extern "C" fn() -> c_long>("hold"),
            library.function::<extern "C" fn() -> c_long>("let_go"),
        )
    };
    in_time(move || {
        let holding = spawn(move || hold());
        yield_now();
        assert_eq!(let_go(), 1);
        assert_eq!(holding.join().unwrap(), 0);
    });
}

#[test]
fn a_wake_at_the_moment_of_a_deadline_is_told_if_it_was_counted() {
    in_process("futex::a_wake_at_the_moment_of_a_deadline_is_told_if_it_was_counted", || {
        let word = Arc::new(AtomicU32::new(1));
        let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let waking = {
            let (word, stop, counted) = (word.clone(), stop.clone(), counted.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    counted.fetch_add(wake(&word, 1) as u32, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(90));
                }
            })
        };
        let told = Rc::new(Cell::new(0));
        let greenlets: Vec<_> = (0..20)
            .map(|number| {
                let (word, told) = (word.clone(), told.clone());
                spawn(move || {
                    for _ in 0..200 {
                        let time = span(Duration::from_micros(50 + 10 * number));
                        match call(&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, Some(time), 0) {
                            Ok(0) => told.set(told.get() + 1),
                            other => assert_eq!(other, Err(libc::ETIMEDOUT)),
                        }
                    }
                })
            })
            .collect();
        greenlets.iter().for_each(|greenlet| greenlet.join().unwrap());
        stop.store(true, Ordering::SeqCst);
        waking.join().unwrap();
        assert_eq!(told.get(), counted.load(Ordering::SeqCst));
    });
}

static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn wake_in_handler(_signal: c_int) {
    let word = WORD.load(Ordering::SeqCst);
    if !word.is_null() {
        // SAFETY: it is leaked below.
        wake(unsafe { &*word }, 1);
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_signals_handler_may_wake() {
    in_time(|| {
        // SAFETY: the handler makes one system call and touches atomics.
        unsafe { libc::signal(libc::SIGRTMIN() + 5, wake_in_handler as *const () as libc::sighandler_t) };
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(1)));
        WORD.store(ptr::from_ref(word).cast_mut(), Ordering::SeqCst);
        // SAFETY: it has no conditions.
        let me = unsafe { libc::pthread_self() };
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let signalling = thread::spawn(move || {
            while !flag.load(Ordering::SeqCst) {
                // SAFETY: that thread joins this one before it ends.
                unsafe { libc::pthread_kill(me, libc::SIGRTMIN() + 5) };
                thread::sleep(Duration::from_micros(20));
            }
        });
        let waiting = spawn(move || (0..300).for_each(|_| assert_eq!(wait(word, 1), Ok(0))));
        let also = spawn(move || {
            for _ in 0..20_000 {
                // In and out of the list of the same word, for the handler to come in between.
                let now = timespec { tv_sec: 0, tv_nsec: 0 };
                let _ = call(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, Some(now), 0);
            }
        });
        waiting.join().unwrap();
        also.join().unwrap();
        stop.store(true, Ordering::SeqCst);
        signalling.join().unwrap();
        assert!(HANDLED.load(Ordering::SeqCst) >= 300);
    });
}

#[test]
fn a_hub_that_ends_with_nobody_called_wakes_no_others() {
    // Others' hubs may end with somebody called.
    in_process("futex::a_hub_that_ends_with_nobody_called_wakes_no_others", || {
        let (go, ends) = std::sync::mpsc::channel();
        let (parked, is_parked) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            spawn(|| wait(&AtomicU32::new(1), 1));
            yield_now();
            parked.send(()).unwrap();
            ends.recv().unwrap();
        });
        is_parked.recv().unwrap();
        let waiting = spawn(|| {
            let time = Some(span(Duration::from_millis(200)));
            call(&AtomicU32::new(1), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, time, ANY)
        });
        yield_now();
        go.send(()).unwrap();
        other.join().unwrap();
        assert_eq!(waiting.join().unwrap(), Err(libc::ETIMEDOUT));
    });
}
