//! `sync::shared`: what threads and the greenlets of several hubs share.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use greenlet::sync::ResultError;
use greenlet::sync::shared::channel::{self, RecvError, SendError};
use greenlet::sync::shared::{AsyncResult, Event};
use greenlet::{HubHandle, JoinError, WaitError, join_all, sleep, spawn, yield_now};
use greenserve_tests::{PATIENCE, eventually, in_time};

use crate::{FOREVER, SHORT};

fn waiting(what: &impl Debug) -> usize {
    let shown = format!("{what:?}");
    let (_, count) = shown.split_once("waiting: ").expect("it tells how many wait");
    count.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn all_of_it_may_be_sent_and_shared() {
    is_send_and_sync::<Event>();
    is_send_and_sync::<AsyncResult<String>>();
    is_send_and_sync::<channel::Sender<std::cell::Cell<u32>>>();
    is_send_and_sync::<channel::Receiver<std::cell::Cell<u32>>>();
}

// ---- Event

#[test]
fn one_event_wakes_greenlets_of_several_hubs_and_a_plain_thread() {
    in_time(|| {
        let event = Arc::new(Event::new());
        let hubs = [(); 2].map(|()| {
            let event = Arc::clone(&event);
            thread::spawn(move || {
                let waiters = [(); 3].map(|()| {
                    let event = Arc::clone(&event);
                    spawn(move || event.wait())
                });
                waiters.iter().for_each(|waiter| waiter.join().unwrap().unwrap());
            })
        });
        let plain = thread::spawn({
            let event = Arc::clone(&event);
            move || event.wait()
        });
        eventually(PATIENCE, || waiting(&event) == 7);
        event.set();
        event.clear();
        hubs.into_iter().for_each(|hub| hub.join().unwrap());
        plain.join().unwrap().unwrap();
        assert_eq!((waiting(&event), event.is_set()), (0, false));
    });
}

#[test]
fn a_wait_for_an_event_that_ends_early_leaves_no_trace() {
    in_time(|| {
        let event = Arc::new(Event::new());
        assert_eq!(event.wait_timeout(SHORT), Err(WaitError::TimedOut));
        let killed = spawn({
            let event = Arc::clone(&event);
            move || event.wait()
        });
        yield_now();
        assert_eq!(waiting(&event), 1);
        killed.kill().unwrap();
        let plain = thread::spawn({
            let event = Arc::clone(&event);
            move || event.wait_timeout(SHORT)
        });
        assert_eq!(plain.join().unwrap(), Err(WaitError::TimedOut));
        assert_eq!((waiting(&event), greenlet::stats().timers), (0, 0));
        event.set();
        assert_eq!(event.wait(), Ok(()));
    });
}

#[test]
fn while_a_greenlet_waits_for_another_thread_its_hub_goes_on() {
    in_time(|| {
        let event = Arc::new(Event::new());
        let turns = Arc::new(AtomicUsize::new(0));
        let worker = spawn({
            let turns = Arc::clone(&turns);
            move || {
                loop {
                    turns.fetch_add(1, Ordering::SeqCst);
                    sleep(SHORT / 10);
                }
            }
        });
        let setter = thread::spawn({
            let (event, turns) = (Arc::clone(&event), Arc::clone(&turns));
            move || {
                eventually(PATIENCE, || turns.load(Ordering::SeqCst) > 3);
                event.set();
            }
        });
        event.wait().unwrap();
        setter.join().unwrap();
        worker.kill().unwrap();
    });
}

#[test]
fn a_shared_wait_while_unwinding_fails_on_a_hub() {
    in_time(|| {
        struct WaitsInDrop(Arc<Event>, Arc<Mutex<Option<WaitError>>>);
        impl Drop for WaitsInDrop {
            fn drop(&mut self) {
                *self.1.lock().unwrap() = self.0.wait().err();
            }
        }
        let (event, seen) = (Arc::new(Event::new()), Arc::new(Mutex::new(None)));
        let killed = spawn({
            let waits = WaitsInDrop(Arc::clone(&event), Arc::clone(&seen));
            move || {
                let _waits = waits;
                sleep(FOREVER);
            }
        });
        yield_now();
        killed.kill().unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(WaitError::Unwinding));
        assert_eq!(waiting(&event), 0);
    });
}

// ---- AsyncResult

#[test]
fn a_result_set_by_a_thread_reaches_greenlets_and_threads() {
    in_time(|| {
        let result = Arc::new(AsyncResult::new());
        let greenlets = [(); 2].map(|()| {
            let result = Arc::clone(&result);
            spawn(move || result.get().map(String::len))
        });
        let plain = thread::spawn({
            let result = Arc::clone(&result);
            move || result.get().map(String::len)
        });
        assert!(matches!(result.get_timeout(SHORT), Err(ResultError::Wait(WaitError::TimedOut))));
        let setter = thread::spawn({
            let result = Arc::clone(&result);
            move || result.set("four".to_owned())
        });
        for greenlet in greenlets {
            assert_eq!(greenlet.join().unwrap().unwrap(), 4);
        }
        assert_eq!(plain.join().unwrap().unwrap(), 4);
        setter.join().unwrap().unwrap();
        assert_eq!(result.set("more".to_owned()), Err("more".to_owned()));
        assert_eq!((result.value().unwrap().as_str(), result.is_successful()), ("four", true));
    });
}

#[test]
fn an_error_set_by_a_thread_reaches_who_waits() {
    in_time(|| {
        let result = Arc::new(AsyncResult::<u32>::new());
        let setter = thread::spawn({
            let result = Arc::clone(&result);
            move || result.set_error("no such luck").unwrap()
        });
        assert_eq!(result.get().unwrap_err().to_string(), "no such luck");
        setter.join().unwrap();
        assert!(result.is_ready() && !result.is_successful() && result.error().is_some());
    });
}

// ---- channel

#[test]
fn threads_and_greenlets_of_several_hubs_pass_every_value_once() {
    const EACH: usize = 2000;
    for capacity in [0, 1, 7, usize::MAX] {
        in_time(move || {
            let (sender, receiver) = channel::bounded(capacity);
            let plain = [0, 1].map(|n| {
                let sender = sender.clone();
                thread::spawn(move || (0..EACH).for_each(|k| sender.send(n * EACH + k).unwrap()))
            });
            let hub = thread::spawn(move || {
                let jobs = [2, 3].map(|n| {
                    let sender = sender.clone();
                    spawn(move || (0..EACH).for_each(|k| sender.send(n * EACH + k).unwrap()))
                });
                join_all(&jobs, None).unwrap();
            });
            let plain_receiver = thread::spawn({
                let receiver = receiver.clone();
                move || receiver.iter().collect::<Vec<_>>()
            });
            let greenlets = [(); 3].map(|()| {
                let receiver = receiver.clone();
                spawn(move || receiver.iter().collect::<Vec<_>>())
            });
            let mut got: Vec<Vec<usize>> =
                greenlets.iter().map(|greenlet| greenlet.join().unwrap()).collect();
            got.push(plain_receiver.join().unwrap());
            plain.into_iter().for_each(|sender| sender.join().unwrap());
            hub.join().unwrap();
            for of_one in &got {
                let sorted: Vec<_> = (0..4).map(|n| of_one.iter().filter(move |k| *k / EACH == n)).collect();
                for from_one in sorted {
                    assert!(from_one.is_sorted(), "what one sends to one comes in order");
                }
            }
            let all: BTreeSet<_> = got.iter().flatten().copied().collect();
            assert_eq!((all.len(), got.iter().map(Vec::len).sum()), (4 * EACH, 4 * EACH));
            assert_eq!((waiting(&receiver), receiver.len()), (0, 0));
        });
    }
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came_whatever_their_thread() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded();
        let first = {
            let receiver = receiver.clone();
            spawn(move || receiver.recv())
        };
        yield_now();
        let second = {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.recv())
        };
        eventually(PATIENCE, || waiting(&receiver) == 2);
        let third = {
            let receiver = receiver.clone();
            spawn(move || receiver.recv())
        };
        yield_now();
        (1..=2).for_each(|n| sender.send(n).unwrap());
        assert_eq!(receiver.try_recv(), Err(RecvError::Empty), "both are meant for somebody");
        let mut got = [first.join().unwrap().unwrap(), second.join().unwrap().unwrap()];
        got.sort_unstable();
        assert_eq!(got, [1, 2], "which of them takes which is up to their threads");
        assert!(!third.is_dead());
        sender.send(3).unwrap();
        assert_eq!(third.join().unwrap(), Ok(3));
    });
}

#[test]
fn a_value_called_for_one_that_is_killed_goes_to_the_next() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded();
        let waiters = [(); 2].map(|()| {
            let receiver = receiver.clone();
            spawn(move || receiver.recv())
        });
        yield_now();
        sender.send('a').unwrap();
        waiters[0].kill_soon();
        assert_eq!(waiters[1].join().unwrap(), Ok('a'));
        assert!(matches!(waiters[0].join(), Err(JoinError::Killed)));
        // nobody else waits: it stays for who comes
        let waiter = spawn({
            let receiver = receiver.clone();
            move || receiver.recv()
        });
        yield_now();
        sender.send('b').unwrap();
        waiter.kill_soon();
        yield_now();
        assert_eq!(receiver.try_recv(), Ok('b'));
    });
}

#[test]
fn space_called_for_one_that_is_killed_goes_to_the_next() {
    in_time(|| {
        let (sender, receiver) = channel::bounded(1);
        sender.send('a').unwrap();
        let waiters = ['b', 'c'].map(|value| {
            let sender = sender.clone();
            spawn(move || sender.send(value))
        });
        yield_now();
        assert_eq!(receiver.recv(), Ok('a'));
        assert_eq!(sender.try_send('d'), Err(SendError::Full('d')), "the space is the first waiter's");
        waiters[0].kill_soon();
        assert_eq!(receiver.recv(), Ok('c'));
        assert_eq!(waiters[1].join().unwrap(), Ok(()));
        assert_eq!((waiting(&receiver), receiver.len()), (0, 0));
    });
}

#[test]
fn without_capacity_a_send_waits_until_the_value_is_taken() {
    in_time(|| {
        let (sender, receiver) = channel::bounded(0);
        assert_eq!(sender.try_send(1), Err(SendError::Full(1)));
        assert_eq!(sender.send_timeout(2, SHORT), Err(SendError::Wait(2, WaitError::TimedOut)));
        let senders = [3, 4, 5].map(|n| {
            let sender = sender.clone();
            spawn(move || sender.send(n))
        });
        yield_now();
        assert_eq!((waiting(&sender), receiver.len()), (3, 0));
        senders[1].kill().unwrap();
        assert_eq!((receiver.recv(), senders[2].is_dead()), (Ok(3), false));
        assert_eq!(receiver.try_recv(), Ok(5), "the killed one has taken its value along");
        assert_eq!((senders[0].join().unwrap(), senders[2].join().unwrap()), (Ok(()), Ok(())));
        let plain = thread::spawn({
            let receiver = receiver.clone();
            move || receiver.recv()
        });
        eventually(PATIENCE, || waiting(&sender) == 1);
        assert_eq!(sender.try_send(6), Ok(()));
        assert_eq!(plain.join().unwrap(), Ok(6));
        let refused = thread::spawn({
            let sender = sender.clone();
            move || sender.send(7)
        });
        eventually(PATIENCE, || waiting(&sender) == 1);
        drop(receiver);
        assert_eq!(refused.join().unwrap(), Err(SendError::Disconnected(7)));
        assert_eq!(waiting(&sender), 0);
    });
}

#[test]
fn limited_waits_time_out_on_hubs_and_on_plain_threads() {
    in_time(|| {
        let check = || {
            let (sender, receiver) = channel::bounded(1);
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvError::Wait(WaitError::TimedOut)));
            sender.send(1).unwrap();
            assert_eq!(sender.send_timeout(2, SHORT), Err(SendError::Wait(2, WaitError::TimedOut)));
            assert_eq!((waiting(&receiver), receiver.recv()), (0, Ok(1)));
        };
        spawn(check).join().unwrap();
        thread::spawn(check).join().unwrap();
    });
}

#[test]
fn the_end_of_one_side_wakes_all_of_the_other_on_every_thread() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded::<u32>();
        let (again, plain) = (receiver.clone(), receiver.clone());
        let plain = thread::spawn(move || plain.recv());
        let greenlet = spawn(move || again.recv());
        yield_now();
        eventually(PATIENCE, || waiting(&receiver) == 2);
        drop(sender);
        assert_eq!(greenlet.join().unwrap(), Err(RecvError::Disconnected));
        assert_eq!(plain.join().unwrap(), Err(RecvError::Disconnected));

        let (sender, receiver) = channel::bounded(1);
        let kept = Arc::new(());
        sender.send(Arc::clone(&kept)).unwrap();
        let (again, plain) = (sender.clone(), sender.clone());
        let (one, two) = (Arc::clone(&kept), Arc::clone(&kept));
        let plain = thread::spawn(move || plain.send(one).is_err());
        let greenlet = spawn(move || again.send(two).is_err());
        yield_now();
        eventually(PATIENCE, || waiting(&sender) == 2);
        drop(receiver);
        assert!(greenlet.join().unwrap() && plain.join().unwrap());
        assert_eq!(Arc::strong_count(&kept), 1, "nothing is kept, nothing is dropped twice");
        assert!(matches!(sender.try_send(kept), Err(SendError::Disconnected(_))));
    });
}

#[test]
fn one_who_waits_on_a_thread_that_has_exited_is_passed_over() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded();
        let abandoned = receiver.clone();
        thread::spawn(move || {
            let _parked = spawn(move || abandoned.recv());
            yield_now();
        })
        .join()
        .unwrap();
        assert_eq!(waiting(&receiver), 1);
        sender.send('a').unwrap();
        assert_eq!((receiver.try_recv(), waiting(&receiver)), (Ok('a'), 0));
    });
}

// ---- HubHandle::call

#[test]
fn a_call_runs_on_the_other_hub_and_brings_back_its_value_or_its_panic() {
    in_time(|| {
        let (handle, hub) = std::sync::mpsc::channel();
        let stop = Arc::new(Event::new());
        let other = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                handle.send(HubHandle::current()).unwrap();
                stop.wait().unwrap();
            }
        });
        let hub = hub.recv().unwrap();
        let there = hub.call(|| {
            sleep(SHORT / 10);
            thread::current().id()
        });
        assert_eq!(there.unwrap(), other.thread().id());
        let panicked = hub.call(|| -> u32 { panic!("over there") });
        let Err(JoinError::Panicked(panic)) = panicked else { panic!("{panicked:?}") };
        assert_eq!(panic.message(), "over there");
        let killed = hub.call(|| greenlet::current().kill_soon());
        assert!(matches!(killed, Err(JoinError::Killed)), "{killed:?}");
        let late = hub.call_timeout(SHORT, || sleep(FOREVER));
        assert!(matches!(late, Err(JoinError::Wait(WaitError::TimedOut))), "{late:?}");
        stop.set();
        other.join().unwrap();
        let gone = hub.call(|| ());
        assert!(matches!(gone, Err(JoinError::Killed)), "{gone:?}");
    });
}

#[test]
fn hubs_may_call_each_other_and_themselves() {
    in_time(|| {
        let here = HubHandle::current();
        let back = here.clone();
        assert_eq!(here.call(|| 1).unwrap(), 1);
        let done = Arc::new(Event::new());
        let other = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let there = HubHandle::current();
                let answer = back.call(move || there.call(|| 2).unwrap() + 3);
                done.set();
                answer.unwrap()
            }
        });
        done.wait().unwrap();
        assert_eq!(other.join().unwrap(), 5);
    });
}

#[test]
fn a_panic_in_a_plain_thread_leaves_the_channel_usable() {
    in_time(|| {
        let (sender, receiver) = channel::bounded(1);
        let inner = receiver.clone();
        let plain = thread::spawn(move || {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _value: u32 = inner.recv().unwrap();
                panic!("as the test wants");
            }));
            assert!(caught.is_err());
            inner.recv()
        });
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(plain.join().unwrap(), Ok(2));
    });
}
