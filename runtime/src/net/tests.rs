//! Waiting to read without a greenlet.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;

use super::UnixStream;
use crate::sync::Event;
use crate::{sleep, spawn, stats, yield_now};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

/// What the closure was told.
type Told = Rc<Cell<Option<bool>>>;

/// A watched socket, its peer, and what its closure was told.
fn watched(timeout: Option<Duration>) -> (Rc<UnixStream>, UnixStream, Told, Rc<Event>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (ours, told, done) = (Rc::new(ours), Rc::new(Cell::new(None)), Rc::new(Event::new()));
    let (note, finished) = (told.clone(), done.clone());
    ours.spawn_when_readable(timeout, move |in_time| {
        note.set(Some(in_time));
        finished.set();
    })
    .unwrap();
    (ours, theirs, told, done)
}

#[test]
fn nothing_runs_before_there_is_something_to_read() {
    let (ours, theirs, told, done) = watched(Some(LONG));
    assert_eq!(stats().greenlets, 0);
    sleep(SHORT);
    assert_eq!(told.get(), None);
    (&theirs).write_all(b"abc").unwrap();
    done.wait().unwrap();
    assert_eq!(told.get(), Some(true));
    assert_eq!(ours.try_read(&mut [0; 9]).unwrap(), 3);
    assert_eq!(ours.try_read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_lies_there_already_is_found() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (&theirs).write_all(b"abcdef").unwrap();
    assert_eq!(ours.try_read(&mut [0; 3]).unwrap(), 3);
    let (ours, done) = (Rc::new(ours), Rc::new(Event::new()));
    let finished = done.clone();
    ours.spawn_when_readable(LONG, move |in_time| {
        assert!(in_time);
        finished.set();
    })
    .unwrap();
    done.wait().unwrap();
    assert_eq!(ours.try_read(&mut [0; 9]).unwrap(), 3);
}

#[test]
fn the_deadline_says_so_and_leaves_no_timer() {
    let (_ours, _theirs, told, done) = watched(Some(SHORT));
    done.wait().unwrap();
    assert_eq!(told.get(), Some(false));
    assert_eq!(stats().timers, 0);
}

#[test]
fn the_peers_end_is_something_to_read() {
    let (ours, theirs, told, done) = watched(Some(LONG));
    drop(theirs);
    done.wait().unwrap();
    assert_eq!(told.get(), Some(true));
    assert_eq!(ours.try_read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn closing_makes_it_run_and_dropping_drops_it_unrun() {
    let (ours, _theirs, told, done) = watched(Some(LONG));
    ours.close();
    done.wait().unwrap();
    assert_eq!(told.get(), Some(true));
    assert_eq!(ours.try_read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::NotConnected);
    drop(ours);

    let (ours, theirs, told, _done) = watched(Some(LONG));
    drop(ours);
    yield_now();
    assert_eq!(Rc::strong_count(&told), 1, "the closure is gone");
    drop(theirs);
    assert_eq!((told.get(), stats().timers), (None, 0));
}

#[test]
fn it_is_the_sockets_one_reader() {
    let (ours, _theirs, _told, _done) = watched(Some(LONG));
    let second = ours.spawn_when_readable(LONG, |_| unreachable!("refused")).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::ResourceBusy);
    assert!(second.to_string().contains("a greenlet that is to start"), "{second}");
    assert_eq!(ours.wait_readable(LONG).unwrap_err().kind(), ErrorKind::ResourceBusy);
}

#[test]
fn main_waits_on_while_something_may_still_start() {
    let (_ours, theirs, _told, done) = watched(None);
    let writer = spawn(move || {
        let () = crate::unblock(|| std::thread::sleep(SHORT));
        (&theirs).write_all(b"x").unwrap();
    });
    done.wait().expect("this is no loop without exit");
    writer.join().unwrap();
}

#[test]
fn a_wait_to_read_ends_with_its_time_and_many_share_one_timer() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(ours.wait_readable(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(stats().timers, 0);
    let peer = spawn(move || {
        for _ in 0..10 {
            (&theirs).write_all(b"x").unwrap();
            yield_now();
            sleep(Duration::from_micros(10));
        }
        theirs
    });
    let mut read = 0;
    while read < 10 {
        match ours.try_read(&mut [0; 9]) {
            Ok(count) => read += count,
            Err(_) => ours.wait_readable(LONG).unwrap(),
        }
        assert!(stats().timers <= 2, "the peer's sleep and one of ours");
    }
    let theirs = peer.join().unwrap();
    // The timer for a later deadline does not make an earlier one late.
    assert_eq!(ours.wait_readable(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    // Nor does the earlier one end a later wait.
    let waiter = spawn(move || ours.wait_readable(LONG).map(|()| ours));
    sleep(SHORT * 3);
    assert!(!waiter.is_dead());
    (&theirs).write_all(b"x").unwrap();
    drop(waiter.join().unwrap().unwrap());
    assert_eq!(stats().timers, 0);
}

#[test]
fn a_closure_that_is_refused_may_use_the_hub_while_it_is_dropped() {
    let (ours, _theirs, _told, _done) = watched(Some(LONG));
    let (registered, peer) = UnixStream::pair().unwrap();
    assert_eq!(registered.wait_readable(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    let before = stats().descriptors;
    // The closure owns a socket of its own, which is taken out of the hub's table when the closure is dropped.
    let refused = ours.spawn_when_readable(LONG, move |_| drop((registered, peer)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ResourceBusy);
    assert_eq!(stats().descriptors, before - 1);
}
