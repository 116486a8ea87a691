//! A stack overflow is reported by the greenlet's name and ends the process as Rust's own does. Run in a child.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use greenlet::{Builder, sleep, spawn};

use crate::{FOREVER, SHORT};

/// Set in the child: what it is to do there.
const ROLE: &str = "RUNTIME_TEST_ROLE";

#[test]
fn a_greenlet_that_overflows_its_stack_is_named_with_its_size() {
    in_child("overflow::a_greenlet_that_overflows_its_stack_is_named_with_its_size", || {
        let other = greenlet::spawn(|| sleep(SHORT * 1000));
        let deep = Builder::new().name("too-deep").stack_size(128 * 1024).spawn(|| recurse(0)).unwrap();
        let _ = deep.join();
        drop(other);
    })
    .inspect(|output| {
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.signal(), Some(libc::SIGABRT | libc::SIGSEGV)),
            "{}: {report}",
            output.status
        );
        assert!(
            report.contains("too-deep") && report.contains("128") && report.contains("overflow"),
            "{report}"
        );
    });
}

#[test]
fn an_overflow_of_a_threads_own_stack_is_still_reported_by_rust() {
    in_child("overflow::an_overflow_of_a_threads_own_stack_is_still_reported_by_rust", || {
        sleep(SHORT);
        recurse(0);
    })
    .inspect(|output| {
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{report}");
        assert!(report.contains("has overflowed its stack"), "{report}");
    });
}

#[test]
fn a_wild_access_is_not_taken_for_an_overflow() {
    in_child("overflow::a_wild_access_is_not_taken_for_an_overflow", || {
        let job = greenlet::spawn(|| {
            let nowhere = std::hint::black_box(16 as *const u8);
            // SAFETY: it is not, on purpose: the process must die of it, and this is a child made for that.
            unsafe { nowhere.read_volatile() }
        });
        let _ = job.join();
    })
    .inspect(|output| {
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("overflow"));
    });
}

#[test]
fn a_panic_that_nothing_can_hold_ends_the_process_and_not_only_its_greenlet() {
    /// Panics when it is dropped, with what panics when it is dropped.
    struct Twice;
    struct Once;
    impl Drop for Twice {
        fn drop(&mut self) {
            std::panic::panic_any(Once);
        }
    }
    impl Drop for Once {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    in_child("overflow::a_panic_that_nothing_can_hold_ends_the_process_and_not_only_its_greenlet", || {
        drop(spawn(|| Twice));
        sleep(FOREVER);
    })
    .inspect(|output| {
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("fatal: a panic has left a green thread"), "{said}");
    });
}

/// Runs `body` in a child that runs this one test again; `None` in that child, which does not get that far if the
/// body does what it is for.
fn in_child(test: &str, body: impl FnOnce()) -> Option<Output> {
    if env::var(ROLE).is_ok_and(|role| role == test) {
        // no core file for a crash on purpose
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a live rlimit which the kernel only reads.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
        body();
        return None;
    }
    let output = Command::new(env::current_exe().expect("the test's own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, test)
        .output()
        .expect("the child runs");
    assert!(!output.status.success(), "the child came through: {}", String::from_utf8_lossy(&output.stdout));
    Some(output)
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "the stack is to overflow")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + frame[7]
}
