//! Signals start greenlets. Each test has signals of its own, as all run in one process.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use greenlet::signal::{self, Signal, Signals};
use greenlet::sync::{Event, Queue};
use greenlet::{WaitError, process, sleep, spawn, stats, yield_now};
use greenserve_tests::{in_time, send_signal};

use crate::SHORT;

/// A signal for real time that no other test uses.
fn own(n: i32) -> Signal {
    Signal::from_raw(libc::SIGRTMIN() + n).unwrap()
}

/// Sends it to this thread, which has handled it when this returns.
fn raise(signal: Signal) {
    // SAFETY: raise(3) takes an integer.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// What is to be done at a signal now.
fn disposition(signal: Signal) -> usize {
    // SAFETY: zeros are a valid sigaction; the call only writes to it.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal.as_raw(), std::ptr::null(), &mut now), 0);
        now.sa_sigaction
    }
}

/// A queue, and a handler that puts something into it.
fn counter() -> (Rc<Queue<()>>, impl Fn() + 'static) {
    let count = Rc::new(Queue::unbounded());
    (Rc::clone(&count), move || count.put(()).unwrap())
}

#[test]
fn a_handler_runs_in_a_greenlet_of_its_own_while_the_hub_sleeps() {
    in_time(|| {
        let name = Rc::new(RefCell::new(String::new()));
        let done = Rc::new(Event::new());
        let handler = signal::on(own(1), {
            let (name, done) = (Rc::clone(&name), Rc::clone(&done));
            move || {
                sleep(SHORT); // it may park
                *name.borrow_mut() = greenlet::current().name().to_owned();
                done.set();
            }
        })
        .unwrap();
        assert_eq!(stats().greenlets, 0, "waiting for a signal takes no greenlet");
        assert_eq!(handler.signal(), own(1));
        let other = thread::spawn(|| {
            thread::sleep(SHORT);
            send_signal(std::process::id(), own(1).as_raw());
        });
        // nobody but the signal can end this: no LoopExit
        done.wait().unwrap();
        assert!(name.borrow().starts_with("on signal"), "{}", name.borrow());
        other.join().unwrap();
    });
}

#[test]
fn a_busy_hub_gets_its_signals_too() {
    in_time(|| {
        let (count, handler) = counter();
        let _handler = signal::on(own(2), handler).unwrap();
        raise(own(2));
        let stop = Rc::new(Cell::new(false));
        let busy = spawn({
            let stop = Rc::clone(&stop);
            move || {
                while !stop.get() {
                    yield_now();
                }
            }
        });
        count.get().unwrap();
        stop.set(true);
        busy.join().unwrap();
    });
}

#[test]
fn all_handlers_of_a_signal_run_in_the_order_of_their_registration() {
    in_time(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let (count, done) = counter();
        let done = Rc::new(done);
        let handlers: Vec<_> = (0..3)
            .map(|n| {
                let (order, done) = (Rc::clone(&order), Rc::clone(&done));
                signal::on(own(3), move || {
                    order.borrow_mut().push(n);
                    done();
                })
                .unwrap()
            })
            .collect();
        raise(own(3));
        (0..3).for_each(|_| drop(count.get()));
        assert_eq!(*order.borrow(), [0, 1, 2]);
        drop(handlers);
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn signals_that_come_together_are_one_and_a_running_handler_does_not_hold_up_the_next() {
    in_time(|| {
        let runs = Rc::new(Cell::new(0));
        let both = Rc::new(Event::new());
        let _handler = signal::on(own(4), {
            let (runs, both) = (Rc::clone(&runs), Rc::clone(&both));
            move || {
                runs.set(runs.get() + 1);
                if runs.get() == 2 {
                    both.set();
                }
                both.wait().unwrap(); // the first ends only once the second runs
            }
        })
        .unwrap();
        for _ in 0..5 {
            raise(own(4));
        }
        while runs.get() == 0 {
            sleep(SHORT);
        }
        raise(own(4));
        both.wait().unwrap();
        sleep(SHORT);
        assert_eq!(runs.get(), 2);
    });
}

#[test]
fn the_earlier_disposition_comes_back_when_the_last_handler_goes() {
    in_time(|| {
        static CALLED_WITH: AtomicI32 = AtomicI32::new(0);
        extern "C" fn earlier(signal: i32) {
            CALLED_WITH.store(signal, Ordering::SeqCst);
        }
        let signal = own(5);
        // SAFETY: the function only sets an atomic.
        unsafe { libc::signal(signal.as_raw(), earlier as *const () as usize) };
        let before = disposition(signal);
        let (count, first) = counter();
        let first = signal::on(signal, first).unwrap();
        let second = signal::on(signal, || ()).unwrap();
        assert_ne!(disposition(signal), before);
        drop(second);
        assert_ne!(disposition(signal), before, "one is left");
        raise(signal);
        count.get().unwrap();
        assert_eq!(CALLED_WITH.load(Ordering::SeqCst), signal.as_raw(), "the earlier one is called, too");
        drop(first);
        assert_eq!(disposition(signal), before);
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn what_somebody_else_has_put_there_since_is_left_alone() {
    in_time(|| {
        let signal = own(6);
        let handler = signal::on(signal, || ()).unwrap();
        // SAFETY: to ignore a signal takes no function.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
        drop(handler);
        assert_eq!(disposition(signal), libc::SIG_IGN);
    });
}

#[test]
fn a_handler_can_take_itself_away_and_register_others() {
    in_time(|| {
        let (count, second) = counter();
        let second = Rc::new(second);
        let slot: Rc<RefCell<Option<signal::Handler>>> = Rc::default();
        let inner = Rc::clone(&slot);
        let handler = signal::on(own(7), move || {
            let second = Rc::clone(&second);
            let next = signal::on(own(8), move || second()).unwrap();
            let this = inner.borrow_mut().replace(next);
            drop(this);
            raise(own(8));
        })
        .unwrap();
        *slot.borrow_mut() = Some(handler);
        raise(own(7));
        count.get().unwrap();
        assert_eq!(slot.borrow().as_ref().unwrap().signal(), own(8));
        slot.take();
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn a_panic_in_a_handler_ends_that_run_only() {
    in_time(|| {
        let runs = Rc::new(Cell::new(0));
        let _handler = signal::on(own(9), {
            let runs = Rc::clone(&runs);
            move || {
                runs.set(runs.get() + 1);
                assert!(runs.get() > 1, "the first run panics");
            }
        })
        .unwrap();
        for n in 1..=2 {
            raise(own(9));
            while runs.get() < n {
                sleep(SHORT);
            }
        }
    });
}

#[test]
fn every_hub_that_has_asked_gets_the_signal() {
    in_time(|| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (ready, is_ready) = std::sync::mpsc::channel();
                let thread = thread::spawn(move || {
                    let signals = Signals::new(&[own(11)]).unwrap();
                    ready.send(()).unwrap();
                    signals.wait_timeout(Duration::from_secs(20))
                });
                is_ready.recv().unwrap();
                thread
            })
            .collect();
        raise(own(11));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(own(11)));
        }
    });
}

#[test]
fn a_thread_that_exits_takes_its_handlers_along() {
    in_time(|| {
        let before = disposition(own(12));
        thread::spawn(|| signal::on(own(12), || ()).unwrap().forget()).join().unwrap();
        assert_eq!(disposition(own(12)), before);
    });
}

#[test]
fn signals_can_be_waited_for_and_none_is_missed_in_between() {
    in_time(|| {
        let signals = Signals::new(&[own(13), own(14)]).unwrap();
        assert_eq!(signals.try_wait(), None);
        assert_eq!(signals.wait_timeout(SHORT), Err(WaitError::TimedOut));
        raise(own(14));
        raise(own(13));
        raise(own(14));
        assert_eq!(signals.wait(), Ok(own(13)), "found together, they come by number");
        assert_eq!(signals.wait(), Ok(own(14)));
        assert_eq!(signals.wait_timeout(SHORT), Err(WaitError::TimedOut));
        let waiter = spawn(move || signals.wait());
        sleep(SHORT);
        waiter.kill().unwrap();
        assert_eq!((stats().greenlets, stats().timers, stats().descriptors), (0, 0, 0));
        let other = thread::spawn(|| {
            thread::sleep(SHORT);
            // the wait may not have begun: then the signal would end the process
            while disposition(own(15)) == libc::SIG_DFL {
                thread::sleep(SHORT);
            }
            raise(own(15));
        });
        assert_eq!(signal::wait(&[own(15)], None).unwrap(), own(15));
        other.join().unwrap();
        assert_eq!(signal::wait(&[own(15)], SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn signals_that_cannot_be_handled_are_an_error_that_leaves_nothing() {
    in_time(|| {
        for signal in [Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL] {
            let error = signal::on(signal, || ()).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(signal.name().unwrap()), "{error}");
        }
        // of those that the C library keeps for itself, only the kernel's answer tells
        let reserved = Signal::from_raw(32).unwrap();
        assert!(Signals::new(&[own(16), reserved]).is_err());
        assert_eq!(disposition(own(16)), libc::SIG_DFL);
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn sigchld_can_be_handled_and_the_waits_for_children_do_not_mind() {
    in_time(|| {
        let (count, handler) = counter();
        let _handler = signal::on(Signal::CHLD, handler).unwrap();
        let jobs: Vec<_> = (0..5)
            .map(|n| {
                spawn(move || {
                    process::Command::new("sh").args(["-c", &format!("exit {n}")]).status().unwrap().code()
                })
            })
            .collect();
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(job.join().unwrap(), Some(n as i32));
        }
        count.get().unwrap();
    });
}
