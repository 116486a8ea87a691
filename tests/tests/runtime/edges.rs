//! Odd moments: waits of no length, destructors that wait or fail, threads that end.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenlet::net::TcpStream;
use greenlet::sync::{Event, Semaphore};
use greenlet::{JoinError, Pool, WaitError, scope, sleep, spawn, timeout, yield_now};
use greenserve_tests::in_time;

use crate::blocking::tcp_pair;
use crate::{FOREVER, SHORT};

/// Runs this when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn waits_of_no_length_look_once_and_give_up() {
    in_time(|| {
        let ran = Rc::new(Cell::new(false));
        let other = spawn({
            let ran = Rc::clone(&ran);
            move || ran.set(true)
        });
        sleep(Duration::ZERO);
        assert!(ran.get(), "even the shortest sleep lets others run");
        assert_eq!(other.join_timeout(Duration::ZERO).ok(), Some(()), "what is there is taken");
        let sleeper = spawn(|| sleep(FOREVER));
        assert!(matches!(sleeper.join_timeout(Duration::ZERO), Err(JoinError::Wait(WaitError::TimedOut))));
        assert_eq!(Event::new().wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
        assert_eq!(Semaphore::new(0).acquire_timeout(Duration::ZERO).err(), Some(WaitError::TimedOut));
        assert!(Semaphore::new(1).acquire_timeout(Duration::ZERO).is_ok());
        assert!(timeout(Duration::ZERO, || sleep(FOREVER)).is_err());
        assert_eq!(timeout(Duration::ZERO, || 5), Ok(5), "work that never waits is done");
        sleeper.kill().unwrap();
        assert_eq!(greenlet::stats().timers, 0);
    });
}

#[test]
fn a_pool_without_places_is_a_wait_that_never_ends() {
    in_time(|| {
        let pool = Pool::new(0);
        assert!(pool.try_spawn(|| ()).is_err());
        assert!(matches!(pool.spawn(|| ()), Err(WaitError::LoopExit(_))));
        assert_eq!(pool.join(None), Ok(()), "it is empty");
    });
}

#[test]
fn a_destructor_may_wait_when_nothing_is_unwinding() {
    in_time(|| {
        let waited = Rc::new(Cell::new(0));
        let job = spawn({
            let waited = Rc::clone(&waited);
            move || {
                let _guard = OnDrop(|| {
                    sleep(SHORT);
                    waited.set(waited.get() + 1);
                });
                sleep(SHORT);
            }
        });
        job.join().unwrap();
        // a value that nobody takes is dropped in its greenlet too, and may wait there
        drop(spawn({
            let waited = Rc::clone(&waited);
            move || {
                OnDrop(move || {
                    sleep(SHORT);
                    waited.set(waited.get() + 1);
                })
            }
        }));
        while greenlet::stats().greenlets > 0 {
            yield_now();
        }
        assert_eq!(waited.get(), 2);
    });
}

#[test]
fn a_value_whose_destructor_panics_harms_nobody_else() {
    in_time(|| {
        drop(spawn(|| OnDrop(|| panic!("in the value's destructor"))));
        let unstarted = spawn({
            let guard = OnDrop(|| panic!("in the closure's destructor"));
            move || drop(guard)
        });
        // the closure of one that never starts is dropped by the one who kills it, whose panic this is
        let caught = greenlet::catch_panic(|| unstarted.kill());
        assert!(unstarted.is_dead());
        drop(caught);
        assert_eq!(spawn(|| (sleep(SHORT), 5).1).join().unwrap(), 5);
        assert_eq!(greenlet::stats().greenlets, 0);
        assert!(!std::thread::panicking());
    });
}

#[test]
fn one_may_be_killed_by_the_destructor_of_another() {
    in_time(|| {
        let second = Rc::new(spawn(|| sleep(FOREVER)));
        let first = spawn({
            let second = Rc::clone(&second);
            move || {
                let _guard = OnDrop(|| second.kill_soon());
                sleep(FOREVER);
            }
        });
        yield_now();
        first.kill().unwrap();
        assert!(matches!(second.join(), Err(JoinError::Killed)));
    });
}

#[test]
fn work_begun_while_unwinding_is_done_later() {
    in_time(|| {
        let done = Rc::new(Cell::new(false));
        let victim = spawn({
            let done = Rc::clone(&done);
            move || {
                let _guard = OnDrop(move || {
                    let done = Rc::clone(&done);
                    spawn(move || {
                        sleep(SHORT);
                        done.set(true);
                    });
                });
                sleep(FOREVER);
            }
        });
        yield_now();
        victim.kill().unwrap();
        assert!(!done.get());
        while !done.get() {
            yield_now();
        }
    });
}

#[test]
fn io_in_a_destructor_that_unwinds_is_done_if_it_need_not_wait() {
    in_time(|| {
        let (ours, mut theirs) = tcp_pair();
        let results = Rc::new(RefCell::new(Vec::new()));
        let victim = spawn({
            let results = Rc::clone(&results);
            move || {
                let _guard = OnDrop(|| {
                    let written = (&ours).write(b"bye").map_err(|error| error.to_string());
                    let read = (&ours).read(&mut [0; 1]).map_err(|error| error.to_string());
                    results.borrow_mut().extend([written, read]);
                });
                sleep(FOREVER);
            }
        });
        yield_now();
        victim.kill().unwrap();
        assert_eq!(results.borrow()[0], Ok(3), "there was room, so it is sent");
        assert!(results.borrow()[1].as_ref().is_err_and(|error| error.contains("unwinding")), "{results:?}");
        let mut all = String::new();
        theirs.read_to_string(&mut all).unwrap();
        assert_eq!(all, "bye");
    });
}

#[test]
fn a_thread_may_end_with_greenlets_sockets_and_handles_left() {
    for _ in 0..20 {
        let (started, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (ours, theirs) = tcp_pair();
            let reader = spawn(move || (&ours).read(&mut [0; 1]).map(drop));
            let pool = Pool::new(1);
            let in_pool = pool.spawn(|| sleep(FOREVER)).unwrap();
            let unstarted = spawn(|| ());
            yield_now();
            started.send(()).unwrap();
            std::mem::forget((reader, in_pool));
            (theirs.into_std().unwrap(), drop(unstarted)).0
        });
        wait.recv().unwrap();
        let stream = thread.join().unwrap();
        drop(stream);
    }
}

#[test]
fn destructors_of_thread_locals_may_use_the_runtime_when_their_thread_ends() {
    struct Late(Option<TcpStream>);
    impl Drop for Late {
        fn drop(&mut self) {
            // none of this may hang or abort, whichever of the two destructors comes first
            sleep(SHORT);
            yield_now();
            let _ = Event::new().wait();
            let _ = spawn(|| ()).join();
            if let Some(stream) = &mut self.0 {
                let _ = stream.write(b"x");
                let _ = stream.read(&mut [0; 1]);
            }
        }
    }
    thread_local! {
        static LATE: RefCell<Late> = const { RefCell::new(Late(None)) };
    }
    in_time(|| {
        for early in [true, false] {
            std::thread::spawn(move || {
                if early {
                    LATE.with(|_| ());
                }
                let (ours, _theirs) = tcp_pair();
                LATE.with(|late| late.borrow_mut().0 = Some(ours));
            })
            .join()
            .unwrap();
        }
    });
}

#[test]
fn signals_do_not_disturb_waits() {
    extern "C" fn ignore(_: libc::c_int) {}
    in_time(|| {
        // SAFETY: the handler does nothing; SIGURG is ignored by default, so nobody in this process needs it.
        unsafe { libc::signal(libc::SIGURG, ignore as extern "C" fn(libc::c_int) as libc::sighandler_t) };
        // SAFETY: pthread_self has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let sender = std::thread::spawn({
            let stop = std::sync::Arc::clone(&stop);
            move || {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    // SAFETY: the thread lives until it has set `stop` and joined this one.
                    unsafe { libc::pthread_kill(thread, libc::SIGURG) };
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let start = std::time::Instant::now();
        sleep(SHORT * 3);
        assert!(start.elapsed() >= SHORT * 3);
        let (mut ours, mut theirs) = tcp_pair();
        let reader = spawn(move || {
            let mut all = Vec::new();
            ours.read_to_end(&mut all).map(|_| all.len())
        });
        let writer = spawn(move || theirs.write_all(&vec![1; 3_000_000]));
        writer.join().unwrap().unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 3_000_000);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        sender.join().unwrap();
    });
}

#[test]
fn a_value_whose_handle_goes_while_its_greenlet_ends_may_panic_as_it_goes() {
    ctxlocal::ctxlocal! {
        static LAST: OnDrop<fn()> = OnDrop(|| sleep(SHORT));
    }
    in_time(|| {
        let handle = spawn(|| {
            LAST.with(|_| ());
            OnDrop(|| panic!("unlucky"))
        });
        yield_now();
        assert!(!handle.is_dead(), "it waits in a destructor");
        let same = handle.as_ref().clone();
        drop(handle);
        same.wait(None).unwrap();
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn of_a_scope_that_a_thread_abandons_nothing_is_dropped_be_it_parked_or_new() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    in_time({
        let seen = Arc::clone(&seen);
        move || {
            spawn(move || {
                let words = ["parked".to_owned(), "never started".to_owned()];
                scope(|s| {
                    let [parked, new] = words.each_ref().map(|word| {
                        let seen = &seen;
                        OnDrop(move || seen.lock().unwrap().push(word.clone()))
                    });
                    s.spawn(|| {
                        let _parked = parked;
                        sleep(FOREVER);
                    });
                    yield_now();
                    s.spawn(move || drop(new));
                    sleep(FOREVER);
                });
            });
            // Until the second child is there, which gets no turn.
            while greenlet::stats().greenlets < 3 {
                yield_now();
            }
        }
    });
    // The scope holds its children, and itself lies on a stack that is never taken up again.
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}
