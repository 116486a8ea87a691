//! Work that blocks, done on threads beside the hub.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use greenlet::{JoinError, join_all, sleep, spawn, timeout, unblock};
use greenserve_tests::in_time;

use crate::SHORT;

#[test]
fn the_result_comes_back_to_the_greenlet_and_the_work_ran_elsewhere() {
    in_time(|| {
        let here = std::thread::current().id();
        assert_ne!(unblock(|| std::thread::current().id()), here, "from main");
        let job = spawn(|| (unblock(|| "value".to_owned()), std::thread::current().id()));
        assert_eq!(
            job.join().unwrap(),
            ("value".to_owned(), here),
            "from a greenlet, which stays on its thread"
        );
    });
}

#[test]
fn ten_can_block_at_once_while_the_hub_goes_on() {
    in_time(|| {
        // each waits until all ten are there: one at a time would never end
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(10));
        let jobs: Vec<_> = (0..10)
            .map(|n| {
                let barrier = std::sync::Arc::clone(&barrier);
                spawn(move || unblock(move || (barrier.wait(), n).1))
            })
            .collect();
        sleep(SHORT);
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(job.join().unwrap(), n);
        }
    });
}

#[test]
fn more_work_than_threads_waits_its_turn_and_all_is_done() {
    in_time(|| {
        let jobs: Vec<_> = (0..500u64)
            .map(|n| spawn(move || unblock(move || (std::thread::sleep(Duration::from_millis(1)), n).1)))
            .collect();
        let sum: u64 = jobs.iter().map(|job| job.join().unwrap()).sum();
        assert_eq!(sum, 499 * 500 / 2);
    });
}

#[test]
fn a_panic_in_the_work_is_the_greenlets() {
    in_time(|| {
        let job = spawn(|| unblock(|| panic!("elsewhere")));
        assert!(matches!(job.join(), Err(JoinError::Panicked(panic)) if panic.message() == "elsewhere"));
        assert_eq!(unblock(|| 5), 5, "the thread that panicked serves on");
    });
}

#[test]
fn one_who_is_killed_or_timed_out_waits_no_longer_and_the_work_goes_on_to_its_end() {
    in_time(|| {
        for end in ["kill", "timeout"] {
            let (release, released) = mpsc::channel::<()>();
            let (done, finished) = mpsc::channel();
            let work = move || {
                unblock(move || {
                    released.recv().unwrap();
                    done.send(()).unwrap();
                })
            };
            if end == "kill" {
                let job = spawn(work);
                sleep(SHORT);
                job.kill().unwrap();
            } else {
                assert!(timeout(SHORT, work).is_err());
            }
            release.send(()).unwrap();
            finished.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    });
}

#[test]
fn waiting_for_work_is_no_loop_exit() {
    in_time(|| {
        let start = Instant::now();
        let jobs = [spawn(|| unblock(|| std::thread::sleep(SHORT * 5)))];
        join_all(&jobs, None).unwrap();
        assert!(start.elapsed() >= SHORT * 5);
    });
}

#[test]
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
fn a_look_up_can_be_left_behind_without_unwinding() {
    use greenlet::foreign;
    in_time(|| {
        let here = std::thread::current().id();
        let mut text = String::from("borrowed");
        let id = spawn(move || {
            let id = foreign::unblock_names(|| {
                text.push('!');
                std::thread::current().id()
            });
            assert_eq!(text, "borrowed!");
            id
        });
        assert_ne!(id.join().unwrap(), here);
        assert_eq!(spawn(|| foreign::look_up(|| 7)).join().unwrap(), Some(7));
        // Told once, at once; what was begun ends on its own, where its result is dropped.
        struct Told(mpsc::Sender<std::thread::ThreadId>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(std::thread::current().id()).unwrap();
            }
        }
        let ((go, may_go), (dropped, drops)) = (mpsc::channel::<()>(), mpsc::channel());
        let left = spawn(move || {
            let mut left = false;
            let _ = timeout(SHORT, || {
                let found = foreign::look_up(move || {
                    may_go.recv().unwrap();
                    Told(dropped)
                });
                left = found.is_none();
                sleep(SHORT);
            });
            left
        });
        assert!(left.join().unwrap());
        go.send(()).unwrap();
        assert_ne!(drops.recv().unwrap(), here);
        assert_eq!(
            std::thread::spawn(|| foreign::look_up(|| 7)).join().unwrap(),
            Some(7),
            "no hub: in place"
        );
    });
}
