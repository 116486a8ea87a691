//! Locks, channels and sleeps: std's and pthreads', in greenlets of one thread, beside this project's own.

use std::cell::UnsafeCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use greenlet::sync;

/// For how long who sleeps sleeps.
const NAP: Duration = Duration::from_millis(1);
/// Longer than any run.
const LONG: Duration = Duration::from_secs(600);

/// What can be measured, each by `times` of it, by so many greenlets.
pub(crate) const WAYS: &[(&str, u32, u32, Job)] = &[
    ("greenlet::sync::Mutex, free", 200_000, 1, |each, _| {
        let lock = sync::Mutex::new(0_u32);
        for _ in 0..each {
            *lock.lock()? += 1;
        }
        Ok(())
    }),
    ("std::sync::Mutex, free", 200_000, 1, |each, _| {
        let lock = std::sync::Mutex::new(0_u32);
        for _ in 0..each {
            *lock.lock().map_err(|_| io::Error::other("poisoned"))? += 1;
        }
        Ok(())
    }),
    ("pthread_mutex, free", 200_000, 1, |each, _| {
        let lock = Pthread::new();
        (0..each).for_each(|_| lock.within(|| ()));
        Ok(())
    }),
    ("greenlet::sync::Mutex, held across a yield", 20_000, 10, |each, many| {
        let lock = Rc::new(sync::Mutex::new(0_u32));
        all(many, move |_| {
            for _ in 0..each {
                let mut count = lock.lock()?;
                greenlet::yield_now();
                *count += 1;
            }
            Ok(())
        })
    }),
    ("std::sync::Mutex, held across a yield", 20_000, 10, |each, many| {
        let lock = Rc::new(std::sync::Mutex::new(0_u32));
        all(many, move |_| {
            for _ in 0..each {
                let mut count = lock.lock().map_err(|_| io::Error::other("poisoned"))?;
                greenlet::yield_now();
                *count += 1;
            }
            Ok(())
        })
    }),
    ("pthread_mutex, held across a yield", 20_000, 10, |each, many| {
        let lock = Rc::new(Pthread::new());
        all(many, move |_| {
            (0..each).for_each(|_| lock.within(greenlet::yield_now));
            Ok(())
        })
    }),
    ("greenlet::sync::channel, there and back", 20_000, 1, |each, _| {
        let (to, from_near) = sync::channel::unbounded();
        let (back, from_far) = sync::channel::unbounded();
        let far = greenlet::spawn(move || from_near.iter().all(|value: u32| back.send(value).is_ok()));
        for value in 0..each {
            to.send(value).map_err(io::Error::other)?;
            from_far.recv().map_err(io::Error::other)?;
        }
        drop(to);
        far.join().map(drop).map_err(|_| io::Error::other("it has panicked"))
    }),
    ("std::sync::mpsc, there and back", 20_000, 1, |each, _| {
        let (to, from_near) = mpsc::channel();
        let (back, from_far) = mpsc::channel();
        let far = greenlet::spawn(move || from_near.iter().all(|value: u32| back.send(value).is_ok()));
        for value in 0..each {
            to.send(value).map_err(io::Error::other)?;
            from_far.recv().map_err(io::Error::other)?;
        }
        drop(to);
        far.join().map(drop).map_err(|_| io::Error::other("it has panicked"))
    }),
    ("greenlet::sync::channel, recv_timeout by 1,000", 20_000, 1_000, |each, many| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..many).map(|_| sync::channel::unbounded()).unzip();
        let feeder = greenlet::spawn(move || {
            (0..each).for_each(|value| {
                greenlet::yield_now();
                senders.iter().for_each(|sender| drop(sender.send(value)));
            });
        });
        let receivers = std::cell::RefCell::new(receivers);
        all(many, move |_| {
            let receiver = receivers.borrow_mut().pop();
            let receiver = receiver.ok_or_else(|| io::Error::other("there is one for each"))?;
            (0..each).try_for_each(|_| receiver.recv_timeout(LONG).map(drop).map_err(io::Error::other))
        })?;
        feeder.join().map_err(|_| io::Error::other("it has panicked"))
    }),
    ("std::sync::mpsc, recv_timeout by 1,000", 20_000, 1_000, |each, many| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..many).map(|_| mpsc::channel()).unzip();
        let feeder = greenlet::spawn(move || {
            (0..each).for_each(|value| {
                greenlet::yield_now();
                for sender in &senders {
                    let _ = sender.send(value);
                }
            });
        });
        let receivers = std::cell::RefCell::new(receivers);
        all(many, move |_| {
            let receiver = receivers.borrow_mut().pop();
            let receiver = receiver.ok_or_else(|| io::Error::other("there is one for each"))?;
            (0..each).try_for_each(|_| receiver.recv_timeout(LONG).map(drop).map_err(io::Error::other))
        })?;
        feeder.join().map_err(|_| io::Error::other("it has panicked"))
    }),
    ("greenlet::sleep of 1 ms by 1,000", 20_000, 1_000, |each, many| {
        all(many, move |_| {
            (0..each).for_each(|_| greenlet::sleep(NAP));
            Ok(())
        })
    }),
    ("thread::sleep of 1 ms by 1,000", 20_000, 1_000, |each, many| {
        all(many, move |_| {
            (0..each).for_each(|_| thread::sleep(NAP));
            Ok(())
        })
    }),
];

/// Does so many by each of so many greenlets.
pub(crate) type Job = fn(u32, u32) -> io::Result<()>;

/// So many greenlets that do the same.
fn all(many: u32, job: impl Fn(u32) -> io::Result<()> + 'static) -> io::Result<()> {
    let job = Rc::new(job);
    let started: Vec<_> = (0..many)
        .map(|index| {
            let job = job.clone();
            greenlet::spawn(move || job(index))
        })
        .collect();
    started.into_iter().try_for_each(|one| one.join().map_err(|_| io::Error::other("it has panicked"))?)
}

/// C's mutex, as it is before its first use.
struct Pthread(Box<UnsafeCell<[usize; 8]>>);

unsafe extern "C" {
    fn pthread_mutex_lock(mutex: *mut [usize; 8]) -> i32;
    fn pthread_mutex_unlock(mutex: *mut [usize; 8]) -> i32;
}

impl Pthread {
    fn new() -> Pthread {
        Pthread(Box::new(UnsafeCell::new([0; 8])))
    }

    fn within(&self, f: impl FnOnce()) {
        // SAFETY: zeros are a mutex that nobody has, of at most so many bytes, and it stays where it is.
        unsafe { pthread_mutex_lock(self.0.get()) };
        f();
        // SAFETY: as above, and it was locked by this greenlet.
        unsafe { pthread_mutex_unlock(self.0.get()) };
    }
}
