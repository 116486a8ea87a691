//! A wait that nothing can ever end is an error that names who is parked, not a hang.

use std::rc::Rc;

use greenlet::sync::{Event, Semaphore};
use greenlet::{Builder, JoinError, Pool, WaitError, join_all, sleep, spawn};
use greenserve_tests::in_time;

use crate::blocking::tcp_pair;
use crate::{FOREVER, SHORT};

#[test]
fn main_is_told_who_is_parked_and_what_each_waits_for() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let forgotten = Builder::new()
            .name("forgotten")
            .spawn({
                let event = Rc::clone(&event);
                move || drop(event.wait())
            })
            .unwrap();
        let semaphore = Rc::new(Semaphore::new(0));
        let _queued = Builder::new()
            .name("queued")
            .spawn({
                let semaphore = Rc::clone(&semaphore);
                move || drop(semaphore.acquire())
            })
            .unwrap();
        let Err(JoinError::Wait(WaitError::LoopExit(exit))) = forgotten.join() else {
            panic!("expected a LoopExit")
        };
        assert_eq!(exit.parked().len(), 3, "{exit}");
        let report = exit.to_string();
        assert!(report.contains("LoopExit"), "{report}");
        for (name, reason) in [("main", "greenlet"), ("forgotten", "Event"), ("queued", "Semaphore")] {
            let line = exit.parked().iter().find(|line| line.contains(name));
            assert!(line.is_some_and(|line| line.contains(reason)), "{name} waits for {reason}: {report}");
        }
        assert!(report.contains("loop_exit.rs"), "it says where they were spawned: {report}");
    });
}

#[test]
fn every_kind_of_wait_in_main_ends_that_way() {
    in_time(|| {
        let stuck = || spawn(|| drop(Event::new().wait()));
        let exits = |error: WaitError| assert!(matches!(error, WaitError::LoopExit(_)), "{error}");
        exits(Event::new().wait().unwrap_err());
        exits(Semaphore::new(0).acquire().unwrap_err());
        exits(join_all(&[stuck()], None).unwrap_err());
        let pool = Pool::new(1);
        pool.spawn(|| drop(Event::new().wait())).unwrap();
        exits(pool.join(None).unwrap_err());
        exits(pool.spawn(|| ()).unwrap_err());
        assert!(matches!(stuck().join(), Err(JoinError::Wait(WaitError::LoopExit(_)))));
    });
}

#[test]
fn as_an_io_error_it_is_a_deadlock() {
    in_time(|| {
        let error = std::io::Error::from(Event::new().wait().unwrap_err());
        assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
        assert!(error.to_string().contains("main"), "{error}");
    });
}

#[test]
fn after_it_the_program_can_go_on_and_help_those_who_are_parked() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let waiter = spawn({
            let event = Rc::clone(&event);
            move || event.wait().is_ok()
        });
        assert!(waiter.join().is_err());
        event.set();
        assert!(waiter.join().unwrap());
        assert_eq!(sleep_and_return(), 5);
    });
}

fn sleep_and_return() -> u32 {
    sleep(SHORT);
    5
}

#[test]
fn a_timer_or_a_socket_may_still_end_it_so_it_is_no_loop_exit() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let later = greenlet::spawn_later(SHORT, {
            let event = Rc::clone(&event);
            move || event.set()
        });
        assert!(event.wait().is_ok());
        later.join().unwrap();

        let event = Rc::new(Event::new());
        let (mut ours, theirs) = tcp_pair();
        let mut theirs = std::net::TcpStream::from(theirs);
        let reader = spawn({
            let event = Rc::clone(&event);
            move || {
                std::io::Read::read(&mut ours, &mut [0; 1]).unwrap();
                event.set();
            }
        });
        let outside = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
        });
        assert!(event.wait().is_ok());
        reader.join().unwrap();
        outside.join().unwrap();
    });
}

#[test]
fn a_greenlet_is_not_told_only_main_is() {
    in_time(|| {
        let inner = spawn(|| Event::new().wait());
        assert!(matches!(inner.join(), Err(JoinError::Wait(WaitError::LoopExit(_)))));
        assert!(!inner.is_dead(), "it is parked still, for main may yet kill it or wake it");
        inner.kill().unwrap();
    });
}

#[test]
fn a_scope_whose_greenlets_can_never_end_is_no_hang_either() {
    in_time(|| {
        let result =
            greenlet::catch_panic(|| greenlet::scope(|s| drop(s.spawn(|| drop(Event::new().wait())))));
        assert!(result.unwrap_err().message().contains("LoopExit"));
        assert_eq!(greenlet::stats().greenlets, 0);
        let sleeping = spawn(|| sleep(FOREVER));
        assert!(sleeping.kill().is_ok());
    });
}
