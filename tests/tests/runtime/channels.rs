//! Channels between the greenlets of one thread.

use greenlet::sync::channel::{self, RecvError, SendError};
use greenlet::{WaitError, join_all, spawn, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, SHORT};

#[test]
fn values_come_in_order_and_iteration_ends_with_the_last_sender() {
    in_time(|| {
        for (sender, receiver) in [channel::unbounded(), channel::bounded(2), channel::bounded(0)] {
            let other = sender.clone();
            let senders = [(sender, 0), (other, 100)]
                .map(|(sender, base)| spawn(move || (0..50).try_for_each(|n| sender.send(base + n))));
            let got: Vec<_> = receiver.iter().collect();
            join_all(&senders, None).unwrap();
            for base in [0, 100] {
                let of_one: Vec<_> = got.iter().copied().filter(|n| n / 100 == base / 100).collect();
                assert_eq!(of_one, (base..base + 50).collect::<Vec<_>>());
            }
            assert_eq!(
                (receiver.recv(), receiver.try_recv()),
                (Err(RecvError::Disconnected), Err(RecvError::Disconnected))
            );
            assert!(receiver.is_disconnected());
        }
    });
}

#[test]
fn what_never_waits_tells_full_empty_and_disconnected() {
    in_time(|| {
        let (sender, receiver) = channel::bounded(1);
        assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
        assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Err(SendError::Full(2))));
        assert_eq!((sender.len(), receiver.len(), receiver.is_empty()), (1, 1, false));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
        drop(receiver);
        assert!(sender.is_disconnected());
        assert_eq!(sender.try_send(3), Err(SendError::Disconnected(3)));
        assert_eq!(sender.send(4).unwrap_err().into_value(), 4);
    });
}

#[test]
fn limited_waits_time_out_and_give_the_value_back() {
    in_time(|| {
        for (sender, receiver) in [channel::bounded(1), channel::bounded(0)] {
            assert_eq!(receiver.recv_timeout(SHORT), Err(RecvError::Wait(WaitError::TimedOut)));
            while sender.try_send('a').is_ok() {}
            assert_eq!(sender.send_timeout('b', SHORT), Err(SendError::Wait('b', WaitError::TimedOut)));
            drop(sender);
            assert!(receiver.iter().all(|value| value == 'a'), "what timed out was not sent");
        }
    });
}

#[test]
fn the_end_of_one_side_wakes_all_of_the_other() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded::<u32>();
        let waiting = [receiver.clone(), receiver].map(|receiver| spawn(move || receiver.recv()));
        let other = sender.clone();
        yield_now();
        drop(sender);
        yield_now();
        assert!(waiting.iter().all(|receiver| !receiver.is_dead()), "there is one sender yet");
        drop(other);
        for receiver in waiting {
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Disconnected));
        }
        for capacity in [0, 1] {
            let (sender, receiver) = channel::bounded(capacity);
            while sender.try_send(0).is_ok() {}
            let waiting = [1, 2].map(|n| {
                let sender = sender.clone();
                spawn(move || sender.send(n))
            });
            yield_now();
            drop(receiver);
            for (n, sender) in (1..).zip(waiting) {
                assert_eq!(sender.join().unwrap(), Err(SendError::Disconnected(n)));
            }
        }
    });
}

#[test]
fn a_value_for_one_that_is_killed_goes_to_the_next() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded();
        let waiting = [receiver.clone(), receiver].map(|receiver| spawn(move || receiver.recv()));
        yield_now();
        sender.send('a').unwrap();
        waiting[0].kill_soon();
        assert_eq!(waiting[1].join().unwrap(), Ok('a'));
    });
}

#[test]
fn values_nobody_can_take_are_dropped_with_the_last_receiver() {
    in_time(|| {
        let (sender, receiver) = channel::unbounded();
        let (flag, dropped) = DropFlag::new();
        sender.send(flag).unwrap();
        let other = receiver.clone();
        drop(receiver);
        assert!(!dropped.get());
        drop(other);
        assert!(dropped.get(), "though the sender is kept");
        let (flag, dropped) = DropFlag::new();
        drop(sender.send(flag));
        assert!(dropped.get());
    });
}

#[test]
fn a_receiver_that_waits_for_a_sender_that_never_sends_is_told_so() {
    in_time(|| {
        let (_sender, receiver) = channel::unbounded::<()>();
        assert!(matches!(receiver.recv(), Err(RecvError::Wait(WaitError::LoopExit(_)))));
        let panic = greenlet::catch_panic(|| receiver.into_iter().count()).unwrap_err();
        assert!(panic.message().contains("LoopExit"), "{panic}");
    });
}
