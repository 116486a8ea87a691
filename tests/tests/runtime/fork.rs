//! After a fork both processes have a whole hub. Each test runs in a process of its own, which forks.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenlet::fs::{FileObject, pipe};
use greenlet::net::{UnixStream, wait_read};
use greenlet::process::{Fork, after_fork, fork};
use greenlet::signal::{self, Signal, Signals};
use greenlet::{Builder, HubHandle, inspect, sleep, spawn, stats, timeout, unblock};
use greenserve_tests::{eventually, in_process, send_signal};

use crate::{FOREVER, SHORT, logs};

/// How long a forked child may take.
const SOON: Duration = Duration::from_secs(20);

/// Forks; the child runs `body` and leaves, with 0 if it returned true. Returns the parent's handle.
fn forked(body: impl FnOnce() -> bool) -> greenlet::process::ChildHandle {
    // SAFETY: the test's other threads are the harness's, which wait for the test, and idle ones of pools.
    match unsafe { fork() }.unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            // Nothing of the test harness may run here: neither its ends nor its beginnings.
            let well = timeout(SOON, || greenlet::catch_panic(body));
            let code = i32::from(!matches!(well, Ok(Ok(true))));
            // SAFETY: it takes an integer and does not return.
            unsafe { libc::_exit(code) }
        }
    }
}

fn succeeds(child: &greenlet::process::ChildHandle) {
    let status = child.wait_timeout(SOON).unwrap();
    assert!(status.success(), "the child: {status}");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn sleepers_wake_in_both() {
    in_process("fork::sleepers_wake_in_both", || {
        let sleeper = spawn(|| {
            sleep(SHORT * 5);
            7
        });
        sleep(SHORT);
        let child = forked(|| sleeper.join().unwrap() == 7);
        assert_eq!(sleeper.join().unwrap(), 7);
        succeeds(&child);
    });
}

#[test]
fn those_who_sleep_for_long_wake_in_both() {
    in_process("fork::those_who_sleep_for_long_wake_in_both", || {
        let sleeper = spawn(|| sleep(SHORT * 40));
        // the hub sleeps for their sake, and is woken by another thread
        unblock(|| std::thread::sleep(SHORT));
        let child = forked(|| sleeper.join().is_ok());
        sleeper.join().unwrap();
        succeeds(&child);
    });
}

#[test]
fn a_fork_in_a_greenlet_returns_twice_and_main_goes_on_in_both() {
    in_process("fork::a_fork_in_a_greenlet_returns_twice_and_main_goes_on_in_both", || {
        let (mut reader, mut writer) = pipe().unwrap();
        let forking = spawn(|| {
            // SAFETY: as in `forked`.
            match unsafe { fork() }.unwrap() {
                Fork::Parent(child) => Some(child),
                Fork::Child => None,
            }
        });
        let Some(child) = forking.join().unwrap() else {
            sleep(SHORT);
            writer.write_all(b"child").unwrap();
            // SAFETY: as in `forked`.
            unsafe { libc::_exit(0) }
        };
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "child");
        succeeds(&child);
    });
}

#[test]
fn what_is_waited_for_in_both_wakes_both_and_each_has_its_own_events() {
    in_process("fork::what_is_waited_for_in_both_wakes_both_and_each_has_its_own_events", || {
        // one socket that both wait for, and one for each that only it waits for and only it gets
        let (shared, mut other) = UnixStream::pair().unwrap();
        let seen = Rc::new(Cell::new(false));
        let waiter = spawn({
            let seen = Rc::clone(&seen);
            move || {
                shared.wait_readable(None).unwrap();
                seen.set(true);
                shared
            }
        });
        let by_function = std::io::pipe().unwrap();
        let waiter_by_function = spawn(move || wait_read(&by_function.0, None).is_ok());
        sleep(SHORT);
        let (mut tell_parent, mut from_child) = UnixStream::pair().unwrap();
        let mut writer = FileObject::from(OwnedFd::from(by_function.1.try_clone().unwrap()));
        let child = forked(|| {
            tell_parent.write_all(b"r").unwrap();
            let woken = waiter.join().is_ok() && waiter_by_function.join().unwrap();
            // it registers something new, whose events must come here
            let (mut new, mut newer) = UnixStream::pair().unwrap();
            let reading = spawn(move || new.read(&mut [0; 1]).unwrap());
            sleep(SHORT);
            newer.write_all(b"x").unwrap();
            woken && reading.join().unwrap() == 1
        });
        // once the child runs
        from_child.read_exact(&mut [0; 1]).unwrap();
        sleep(SHORT);
        assert!(!seen.get());
        other.write_all(b"for both").unwrap();
        writer.write_all(b"for both").unwrap();
        assert!(waiter_by_function.join().unwrap());
        let mut shared = waiter.join().unwrap();
        succeeds(&child);
        // nobody has read it; the parent's own poller still works for it
        let mut text = [0; 8];
        shared.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"for both");
        let reading = spawn(move || shared.read(&mut [0; 8]).unwrap());
        sleep(SHORT);
        other.write_all(b"again").unwrap();
        assert_eq!(reading.join().unwrap(), 5);
    });
}

#[test]
fn what_the_child_closes_the_parent_still_waits_for() {
    in_process("fork::what_the_child_closes_the_parent_still_waits_for", || {
        let (one, mut other) = UnixStream::pair().unwrap();
        let reading = spawn(move || {
            let mut one = one;
            one.read(&mut [0; 8]).unwrap()
        });
        sleep(SHORT);
        let child = forked(|| {
            reading.kill().unwrap(); // closes the socket, too
            stats().descriptors == 0 && stats().greenlets == 0
        });
        succeeds(&child);
        other.write_all(b"still").unwrap();
        assert_eq!(reading.join().unwrap(), 5);
    });
}

#[test]
fn neither_gains_or_loses_descriptors() {
    in_process("fork::neither_gains_or_loses_descriptors", || {
        let waiting = spawn(|| {
            let (mut reader, _writer) = pipe().unwrap();
            reader.read(&mut [0; 1])
        });
        let _handler = signal::on(Signal::USR1, || ()).unwrap();
        // what the hub makes at first need is there then, its alarm for waits of more than 100 ms too
        sleep(Duration::from_millis(150));
        succeeds(&forked(|| true));
        let before = open_descriptors();
        for _ in 0..3 {
            let child = forked(|| open_descriptors() <= before && stats().descriptors == 2);
            succeeds(&child);
        }
        assert_eq!(open_descriptors(), before);
        // a child of the child
        let child = forked(|| {
            let grandchild = forked(|| open_descriptors() <= before);
            grandchild.wait().unwrap().success() && open_descriptors() <= before
        });
        succeeds(&child);
        waiting.kill().unwrap();
    });
}

#[test]
fn other_threads_reach_the_hubs_of_both() {
    in_process("fork::other_threads_reach_the_hubs_of_both", || {
        let hub = HubHandle::current();
        assert_eq!(unblock(|| 1), 1);
        let reaches = |hub: HubHandle| {
            // the hub sleeps when the thread calls, so this needs the notifier
            thread_local!(static DONE: Rc<greenlet::sync::Event> = Rc::default());
            DONE.with(|done| done.clear());
            let thread = std::thread::spawn(move || {
                std::thread::sleep(SHORT);
                hub.spawn(|| DONE.with(|done| done.set()))
            });
            DONE.with(Rc::clone).wait().unwrap();
            thread.join().unwrap()
        };
        let child = forked(|| reaches(hub.clone()) && unblock(|| 2) == 2);
        assert!(reaches(hub));
        assert_eq!(unblock(|| 3), 3);
        succeeds(&child);
    });
}

#[test]
fn names_are_resolved_in_the_child() {
    in_process("fork::names_are_resolved_in_the_child", || {
        assert!(greenlet::net::resolve("localhost:80").is_ok());
        let child = forked(|| greenlet::net::resolve("localhost:80").is_ok());
        succeeds(&child);
    });
}

#[test]
fn each_has_its_own_signals() {
    in_process("fork::each_has_its_own_signals", || {
        let signals = Signals::new(&[Signal::USR1]).unwrap();
        let (mut ready, mut from_child) = UnixStream::pair().unwrap();
        let child = forked(|| {
            ready.write_all(b"r").unwrap();
            signals.wait() == Ok(Signal::USR1) && signals.try_wait().is_none()
        });
        from_child.read_exact(&mut [0; 1]).unwrap();
        child.signal(Signal::USR1).unwrap();
        succeeds(&child);
        assert_eq!(signals.try_wait(), None, "it was the child's");
        send_signal(std::process::id(), libc::SIGUSR1);
        assert_eq!(signals.wait(), Ok(Signal::USR1));
    });
}

#[test]
fn signals_that_only_other_threads_handled_are_as_before_in_the_child() {
    in_process("fork::signals_that_only_other_threads_handled_are_as_before_in_the_child", || {
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _handler = signal::on(Signal::USR2, || ()).unwrap();
            ready.send(()).unwrap();
            sleep(FOREVER);
        });
        is_ready.recv().unwrap();
        let child = forked(|| {
            send_signal(std::process::id(), libc::SIGUSR2);
            true
        });
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait_timeout(SOON).unwrap().signal(), Some(libc::SIGUSR2));
    });
}

#[test]
fn hooks_run_in_the_child_only() {
    in_process("fork::hooks_run_in_the_child_only", || {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        after_fork(|| {
            sleep(Duration::from_millis(1)); // the hub is whole
            assert_eq!(CALLS.fetch_add(1, Ordering::SeqCst), 0);
        });
        after_fork(|| assert_eq!(CALLS.fetch_add(1, Ordering::SeqCst), 1));
        let child = forked(|| CALLS.load(Ordering::SeqCst) == 2);
        succeeds(&child);
        assert_eq!(CALLS.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_process_without_a_hub_can_fork_and_the_child_makes_one() {
    in_process("fork::a_process_without_a_hub_can_fork_and_the_child_makes_one", || {
        let child = forked(|| {
            sleep(Duration::from_millis(1));
            true
        });
        succeeds(&child);
    });
}

#[test]
fn a_child_has_no_children() {
    in_process("fork::a_child_has_no_children", || {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut first = greenlet::process::Command::new("cat").stdin(reader).spawn().unwrap();
        let other = first.handle();
        let child = forked(|| other.wait().is_err());
        succeeds(&child);
        first.kill().unwrap();
        first.wait().unwrap();
        let sockets = UnixStream::pair().unwrap();
        assert!(sockets.0.as_raw_fd() >= 0);
    });
}

#[test]
fn a_hub_that_is_watched_is_watched_in_both() {
    in_process("fork::a_hub_that_is_watched_is_watched_in_both", || {
        logs::collect();
        let blocks = |name: &str| {
            let greenlet = Builder::new().name(name).spawn(|| std::thread::sleep(SHORT * 30)).unwrap();
            greenlet.join().unwrap();
            let told =
                || logs::of(&format!("'{name}'")).iter().any(|line| line.contains(" holds the hub for "));
            eventually(SOON / 2, told);
            true
        };
        let _monitor = inspect::watch(SHORT * 5).unwrap();
        let child = forked(|| blocks("in the child"));
        assert!(blocks("in the parent"));
        succeeds(&child);
    });
}

#[test]
fn fork_alone_is_refused_where_there_are_other_threads() {
    // The test harness has its own.
    let error = greenlet::process::fork_alone().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("more threads"), "{error}");
}

#[test]
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
fn a_descriptor_of_others_that_was_closed_without_a_word_is_not_missed_in_the_child() {
    const TEST: &str =
        "fork::a_descriptor_of_others_that_was_closed_without_a_word_is_not_missed_in_the_child";
    in_process(TEST, || {
        use greenlet::foreign::{self, Woken};
        let (gone, kept) = (std::os::unix::net::UnixStream::pair(), std::os::unix::net::UnixStream::pair());
        let ((gone, _gone_too), (kept, mut peer)) = (gone.unwrap(), kept.unwrap());
        // Makes the hub.
        greenlet::yield_now();
        for fd in [gone.as_raw_fd(), kept.as_raw_fd()] {
            assert_eq!(foreign::wait_readable(fd, foreign::deadline(SHORT)).unwrap(), Woken::Deadline);
        }
        // As another thread would.
        drop(gone);
        let fd = kept.as_raw_fd();
        let reader = spawn(move || foreign::wait_readable(fd, None).unwrap());
        greenlet::yield_now();
        let child = forked(|| {
            peer.write_all(b"x").unwrap();
            reader.join().unwrap() == Woken::Event
        });
        succeeds(&child);
        assert_eq!(reader.join().unwrap(), Woken::Event);
    });
}
