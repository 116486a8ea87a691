//! What crosses from thread to thread: handles to a hub, and nothing else.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use greenlet::sync::Event;
use greenlet::{HubHandle, WaitError, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::SHORT;

thread_local! {
    static WOKEN: Rc<Event> = Rc::new(Event::new());
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn another_thread_wakes_a_hub_that_sleeps() {
    in_time(|| {
        let hub = HubHandle::current();
        let other = thread::spawn(move || {
            thread::sleep(SHORT);
            hub.spawn(|| WOKEN.with(|event| event.set()))
        });
        WOKEN.with(Rc::clone).wait().unwrap();
        assert!(other.join().unwrap());
    });
}

#[test]
fn what_other_threads_send_runs_here_in_greenlets_each_senders_in_order() {
    in_time(|| {
        let here = thread::current().id();
        let hub = HubHandle::current();
        let total = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (hub, total) = (hub.clone(), Arc::clone(&total));
                thread::spawn(move || {
                    let last = Arc::new(AtomicUsize::new(0));
                    for n in 1..=500 {
                        let (total, last) = (Arc::clone(&total), Arc::clone(&last));
                        let sent = hub.spawn(move || {
                            assert_eq!(thread::current().id(), here);
                            assert_eq!(last.swap(n, Ordering::SeqCst), n - 1, "in order");
                            total.fetch_add(1, Ordering::SeqCst);
                        });
                        assert!(sent);
                    }
                })
            })
            .collect();
        while total.load(Ordering::SeqCst) < 2000 {
            sleep(SHORT / 10);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_hub_that_is_busy_hears_of_other_threads_too() {
    in_time(|| {
        let busy = spawn(|| {
            while COUNT.with(Cell::get) == 0 {
                yield_now();
            }
        });
        let hub = HubHandle::current();
        let other = thread::spawn(move || hub.spawn(|| COUNT.with(|count| count.set(1))));
        busy.join().unwrap();
        assert!(other.join().unwrap());
    });
}

#[test]
fn once_nobody_elsewhere_can_wake_it_main_is_told() {
    in_time(|| {
        let hub = HubHandle::current();
        let other = thread::spawn(move || {
            thread::sleep(SHORT);
            drop(hub);
        });
        // as long as the other thread has its handle this may still end; when it is dropped it can not
        assert!(matches!(Event::new().wait(), Err(WaitError::LoopExit(_))));
        other.join().unwrap();
    });
}

#[test]
fn a_thread_that_has_ended_takes_nothing_any_more() {
    in_time(|| {
        let hub = thread::spawn(|| {
            sleep(SHORT / 10);
            HubHandle::current()
        })
        .join()
        .unwrap();
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        assert!(!hub.spawn(move || drop(inside)));
        assert_eq!(Arc::strong_count(&held), 1, "what it would have run is dropped");
    });
}

#[test]
fn each_thread_has_a_hub_of_its_own() {
    in_time(|| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                thread::spawn(move || {
                    let jobs: Vec<_> = (0..50).map(|k| spawn(move || (sleep(SHORT / 10), n * k).1)).collect();
                    jobs.iter().map(|job| job.join().unwrap()).sum::<usize>()
                })
            })
            .collect();
        for (n, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), n * 49 * 50 / 2);
        }
    });
}
