//! `Queue` without room, `peek`, iteration; `JoinableQueue`, `LifoQueue`, `PriorityQueue`.

use std::rc::Rc;

use greenlet::sync::{
    GetError, JoinableQueue, LifoQueue, PriorityQueue, PutError, Queue, Store, TaskQueue, TooManyDone,
};
use greenlet::{Greenlet, WaitError, join_all, spawn, timeout, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, SHORT};

fn spawn_with<S: 'static, T: 'static>(shared: &Rc<S>, f: impl FnOnce(&S) -> T + 'static) -> Greenlet<T> {
    let shared = Rc::clone(shared);
    spawn(move || f(&shared))
}

// ---- rendezvous

#[test]
fn in_a_rendezvous_a_put_waits_until_the_value_is_taken() {
    in_time(|| {
        for queue in [Queue::rendezvous(), Queue::bounded(0)] {
            assert_eq!(queue.capacity(), Some(0));
            let queue = Rc::new(queue);
            let putters: Vec<_> = (0..3).map(|n| spawn_with(&queue, move |queue| queue.put(n))).collect();
            yield_now();
            assert!(putters.iter().all(|putter| !putter.is_dead()) && queue.is_empty());
            assert_eq!((queue.get(), queue.try_get(), queue.get_timeout(SHORT)), (Ok(0), Ok(1), Ok(2)));
            join_all(&putters, None).unwrap();
            assert_eq!(queue.try_get(), Err(GetError::Empty));
        }
    });
}

#[test]
fn in_a_rendezvous_one_who_waits_to_get_is_met_at_once() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        assert_eq!(queue.try_put('a'), Err(PutError::Full('a')));
        let getters: Vec<_> = (0..2).map(|_| spawn_with(&queue, Queue::get)).collect();
        yield_now();
        assert_eq!((queue.put('b'), queue.try_put('c')), (Ok(()), Ok(())));
        assert_eq!(queue.try_put('d'), Err(PutError::Full('d')), "both have been met");
        let got: Vec<_> = getters.iter().map(|getter| getter.join().unwrap().unwrap()).collect();
        assert_eq!(got, ['b', 'c']);
    });
}

#[test]
fn in_a_rendezvous_one_who_gives_up_takes_its_value_along() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        assert_eq!(queue.put_timeout('a', SHORT), Err(PutError::Wait('a', WaitError::TimedOut)));
        assert_eq!(queue.get_timeout(SHORT), Err(GetError::Wait(WaitError::TimedOut)));
        let (flag, dropped) = DropFlag::new();
        let killed = {
            let queue = Rc::new(Queue::rendezvous());
            let killed = spawn_with(&queue, move |queue| drop(queue.put(flag)));
            yield_now();
            killed.kill().unwrap();
            assert!(queue.try_get().is_err());
            dropped
        };
        assert!(killed.get());
        // the middle one of three goes
        let putters = ['b', 'c', 'd'].map(|value| spawn_with(&queue, move |queue| queue.put(value)));
        yield_now();
        putters[1].kill().unwrap();
        assert_eq!((queue.get(), queue.get()), (Ok('b'), Ok('d')));
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        assert_eq!(putters[2].join().unwrap(), Ok(()));
    });
}

#[test]
fn in_a_rendezvous_a_value_for_one_that_is_killed_stays_for_the_next() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        queue.put('a').unwrap();
        getter.kill().unwrap();
        let putter = spawn_with(&queue, |queue| queue.put('b'));
        yield_now();
        assert_eq!((queue.get(), putter.is_dead()), (Ok('a'), false));
        assert_eq!(queue.get(), Ok('b'));
        assert_eq!(putter.join().unwrap(), Ok(()));
    });
}

#[test]
fn in_a_rendezvous_values_come_out_in_the_order_in_which_they_were_put() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        let putter = spawn_with(&queue, |queue| queue.put('b'));
        let taker = spawn_with(&queue, Queue::try_get);
        queue.put('a').unwrap();
        // they run before the getter, which is still to come for its value
        assert_eq!((taker.join().unwrap(), getter.join().unwrap()), (Ok('a'), Ok('b')));
        assert_eq!(putter.join().unwrap(), Ok(()));
    });
}

#[test]
fn closing_a_rendezvous_sends_all_away_with_their_values() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        let putters: Vec<_> = (0..2).map(|n| spawn_with(&queue, move |queue| queue.put(n))).collect();
        yield_now();
        queue.close();
        assert_eq!(queue.try_get(), Err(GetError::Closed));
        for (n, putter) in putters.iter().enumerate() {
            assert_eq!(putter.join().unwrap(), Err(PutError::Closed(n)));
        }
        assert_eq!(queue.get(), Err(GetError::Closed));
        let queue = Rc::new(Queue::<u32>::rendezvous());
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        queue.close();
        assert_eq!(getter.join().unwrap(), Err(GetError::Closed));
    });
}

// ---- peek and iteration

#[test]
fn peek_leaves_the_value_where_it_is() {
    in_time(|| {
        let queue = Queue::bounded(2);
        assert_eq!(queue.try_peek(), Err(GetError::Empty));
        assert_eq!(queue.peek_timeout(SHORT), Err(GetError::Wait(WaitError::TimedOut)));
        queue.put('a').unwrap();
        queue.put('b').unwrap();
        assert_eq!((queue.peek(), queue.try_peek(), queue.len()), (Ok('a'), Ok('a'), 2));
        assert_eq!(queue.try_put('c'), Err(PutError::Full('c')), "a look makes no space");
        assert_eq!((queue.get(), queue.get()), (Ok('a'), Ok('b')));
        queue.close();
        assert_eq!((queue.peek(), queue.try_peek()), (Err(GetError::Closed), Err(GetError::Closed)));
    });
}

#[test]
fn one_who_waits_to_peek_is_woken_in_its_turn_and_wakes_the_next() {
    in_time(|| {
        let queue = Rc::new(Queue::unbounded());
        let first = spawn_with(&queue, Queue::peek);
        let killed = spawn_with(&queue, Queue::peek);
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        queue.put('a').unwrap();
        killed.kill_soon();
        assert_eq!((first.join().unwrap(), getter.join().unwrap()), (Ok('a'), Ok('a')));
        assert_eq!(queue.try_get(), Err(GetError::Empty));
    });
}

#[test]
fn peek_at_a_rendezvous_sees_what_is_offered() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        let putter = spawn_with(&queue, |queue| queue.put('a'));
        yield_now();
        assert_eq!((queue.peek(), queue.try_peek(), putter.is_dead()), (Ok('a'), Ok('a'), false));
        assert_eq!(queue.get(), Ok('a'));
        let peeker = spawn_with(&queue, Queue::peek);
        yield_now();
        queue.put('b').unwrap();
        assert_eq!((peeker.join().unwrap(), queue.get()), (Ok('b'), Ok('b')));
    });
}

#[test]
fn iteration_ends_when_the_queue_is_closed_and_says_so_when_it_never_can() {
    in_time(|| {
        let queue = Rc::new(Queue::unbounded());
        let reader = spawn_with(&queue, |queue| queue.iter().collect::<Vec<_>>());
        (1..=3).for_each(|n| queue.put(n).unwrap());
        yield_now();
        queue.close();
        assert_eq!(reader.join().unwrap(), [1, 2, 3]);
        let stuck = Queue::<()>::unbounded();
        let panic = greenlet::catch_panic(|| stuck.iter().count()).unwrap_err();
        assert!(panic.message().contains("LoopExit"), "{panic}");
    });
}

// ---- queues of tasks

#[test]
fn a_lifo_queue_gives_the_last_and_a_priority_queue_the_smallest_first() {
    in_time(|| {
        let lifo = LifoQueue::unbounded();
        (1..=3).for_each(|n| lifo.put(n).unwrap());
        assert_eq!((lifo.peek(), lifo.len()), (Ok(3), 3));
        assert_eq!([(); 3].map(|()| lifo.get().unwrap()), [3, 2, 1]);

        #[derive(Debug, Clone)]
        struct Job(u32, &'static str);
        impl PartialEq for Job {
            fn eq(&self, other: &Job) -> bool {
                self.0 == other.0
            }
        }
        impl Eq for Job {}
        impl PartialOrd for Job {
            fn partial_cmp(&self, other: &Job) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for Job {
            fn cmp(&self, other: &Job) -> std::cmp::Ordering {
                self.0.cmp(&other.0)
            }
        }
        let queue = PriorityQueue::unbounded();
        for job in [Job(2, "c"), Job(1, "a"), Job(3, "e"), Job(1, "b"), Job(2, "d")] {
            queue.put(job).unwrap();
        }
        assert_eq!(queue.peek().unwrap().1, "a");
        let got: String = (0..5).map(|_| queue.try_get().unwrap().1).collect();
        assert_eq!(got, "abcde", "equal ones in the order in which they were put");
    });
}

fn check_as_a_queue<S: Store<char> + 'static>(queue: TaskQueue<char, S>) {
    assert_eq!(queue.capacity(), Some(1));
    let queue = Rc::new(queue);
    assert_eq!((queue.try_get(), queue.try_peek()), (Err(GetError::Empty), Err(GetError::Empty)));
    assert_eq!(queue.get_timeout(SHORT), Err(GetError::Wait(WaitError::TimedOut)));
    queue.put('a').unwrap();
    assert_eq!(queue.try_put('b'), Err(PutError::Full('b')));
    assert_eq!(queue.put_timeout('b', SHORT), Err(PutError::Wait('b', WaitError::TimedOut)));
    assert!(timeout(SHORT, || drop(queue.put('b'))).is_err());
    let putters = ['b', 'c'].map(|value| spawn_with(&queue, move |queue| queue.put(value)));
    yield_now();
    putters[0].kill().unwrap();
    assert_eq!((queue.get(), queue.get()), (Ok('a'), Ok('c')));
    assert_eq!(putters[1].join().unwrap(), Ok(()));
    // a value whose getter is killed goes to the next
    let getters = [(); 2].map(|()| spawn_with(&queue, TaskQueue::get));
    yield_now();
    queue.put('d').unwrap();
    getters[0].kill_soon();
    assert_eq!(getters[1].join().unwrap(), Ok('d'));
    assert_eq!((queue.len(), queue.is_empty(), queue.unfinished_tasks()), (0, true, 3));
    // closing wakes all
    queue.put('e').unwrap();
    let putter = spawn_with(&queue, |queue| queue.put('f'));
    yield_now();
    queue.close();
    assert_eq!(putter.join().unwrap(), Err(PutError::Closed('f')));
    assert_eq!((queue.get(), queue.get()), (Ok('e'), Err(GetError::Closed)));
    assert!(queue.is_closed() && queue.put('g') == Err(PutError::Closed('g')));
}

#[test]
fn queues_of_every_order_wait_and_close_as_queue_does() {
    in_time(|| {
        check_as_a_queue(JoinableQueue::bounded(1));
        check_as_a_queue(LifoQueue::bounded(1));
        check_as_a_queue(PriorityQueue::bounded(1));
    });
}

#[test]
fn join_waits_until_all_that_was_put_is_done() {
    in_time(|| {
        let queue = Rc::new(JoinableQueue::unbounded());
        queue.join().unwrap();
        (0..2).for_each(|n| queue.put(n).unwrap());
        assert_eq!(queue.join_timeout(SHORT), Err(WaitError::TimedOut));
        let joiners: Vec<_> = (0..2).map(|_| spawn_with(&queue, JoinableQueue::join)).collect();
        let killed = spawn_with(&queue, JoinableQueue::join);
        yield_now();
        killed.kill().unwrap();
        queue.get().unwrap();
        queue.task_done().unwrap();
        queue.get().unwrap();
        yield_now();
        assert!(queue.is_empty() && joiners.iter().all(|joiner| !joiner.is_dead()), "got is not done");
        queue.task_done().unwrap();
        queue.put(3).unwrap();
        for joiner in &joiners {
            assert_eq!(joiner.join().unwrap(), Ok(()), "woken, though there is more to do");
        }
        assert_eq!(queue.join_timeout(SHORT), Err(WaitError::TimedOut));
    });
}

#[test]
fn task_done_once_too_often_is_an_error_and_changes_nothing() {
    in_time(|| {
        let queue = JoinableQueue::unbounded();
        assert_eq!(queue.task_done(), Err(TooManyDone));
        queue.put(()).unwrap();
        assert_eq!((queue.task_done(), queue.task_done()), (Ok(()), Err(TooManyDone)));
        queue.put(()).unwrap();
        assert_eq!(queue.unfinished_tasks(), 1);
    });
}

#[test]
fn a_put_that_waits_or_fails_counts_for_nothing_until_it_is_done() {
    in_time(|| {
        let queue = Rc::new(JoinableQueue::bounded(1));
        queue.put(1).unwrap();
        queue.try_put(2).unwrap_err();
        let putter = spawn_with(&queue, |queue| queue.put(3));
        yield_now();
        assert_eq!(queue.unfinished_tasks(), 1);
        queue.get().unwrap();
        putter.join().unwrap().unwrap();
        assert_eq!(queue.unfinished_tasks(), 2);
    });
}

#[test]
#[should_panic(expected = "room for one")]
fn a_queue_of_tasks_without_room_is_refused() {
    drop(LifoQueue::<()>::bounded(0));
}

#[test]
fn a_queue_is_full_when_it_holds_as_many_values_as_it_may() {
    let (bounded, unbounded, rendezvous) = (Queue::bounded(2), Queue::default(), Queue::<u8>::rendezvous());
    let full = || (bounded.is_full(), unbounded.is_full(), rendezvous.is_full());
    for n in 0..2 {
        assert_eq!(full(), (false, false, true));
        bounded.try_put(n).unwrap();
        unbounded.try_put(n).unwrap();
    }
    assert_eq!(full(), (true, false, true));
    bounded.try_get().unwrap();
    assert!(!bounded.is_full());
    let tasks = JoinableQueue::bounded(1);
    tasks.try_put('a').unwrap();
    assert!(tasks.is_full() && !JoinableQueue::<char>::unbounded().is_full());
}
