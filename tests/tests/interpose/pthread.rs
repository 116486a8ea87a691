//! POSIX threads' locks, from C, in greenlets and in threads.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use greenlet::{join_all, sleep, spawn, yield_now};
use greenserve_tests::{c, eventually, in_time};
use libc::{EBUSY, EDEADLK, EINVAL, EPERM, ETIMEDOUT};

/// Something of C's, at an address that stays.
#[derive(Clone, Copy)]
struct Object(*mut c_void);
// SAFETY: they are locks.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

type Function = extern "C" fn(*mut c_void, *mut c_void, c_long) -> c_long;

/// One of the functions below, by its name.
fn function(name: &str) -> Function {
    struct Code(c::Library);
    // SAFETY: it is only asked for functions.
    unsafe impl Send for Code {}
    // SAFETY: as above.
    unsafe impl Sync for Code {}
    static CODE: OnceLock<Code> = OnceLock::new();
    let code = CODE.get_or_init(|| Code(c::load(SOURCE)));
    // SAFETY: all are written with these arguments.
    unsafe { code.0.function(name) }
}

/// Calls one, and checks that `errno` stays.
fn call2(name: &str, one: Object, other: Object, number: c_long) -> c_int {
    let function = function(name);
    // SAFETY: libc's errno.
    unsafe { *libc::__errno_location() = 4711 };
    let result = function(one.0, other.0, number);
    // SAFETY: as above.
    let errno = unsafe { *libc::__errno_location() };
    if result == -1 && name.starts_with("sem_") {
        return errno;
    }
    assert_eq!(errno, 4711, "{name} has changed errno");
    result as c_int
}

fn call(name: &str, object: Object) -> c_int {
    call2(name, object, Object(std::ptr::null_mut()), 50)
}

fn made(name: &str, kind: c_long) -> Object {
    let null = std::ptr::null_mut();
    Object(std::ptr::with_exposed_provenance_mut(function(name)(null, null, kind) as usize))
}

const SOURCE: &str = r#"
#include <pthread.h>
#include <semaphore.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>

#define F(name) long name(void *a, void *b, long n)
#define NEW(type) type *it = aligned_alloc(64, 64)
#define CHECK(call) if (call) abort()

/* the type, and 16: robust, 32: priority inheritance, 128: shared */
F(mutex) {
    NEW(pthread_mutex_t);
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes));
    CHECK(pthread_mutexattr_settype(&attributes, n & 3));
    if (n & 16) CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
    if (n & 32) CHECK(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    if (n & 128) CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
    CHECK(pthread_mutex_init(it, &attributes));
    return (long) it;
}
/* the clock, and 128: shared */
F(condition) {
    NEW(pthread_cond_t);
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes));
    CHECK(pthread_condattr_setclock(&attributes, n & 7));
    if (n & 128) CHECK(pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
    CHECK(pthread_cond_init(it, &attributes));
    return (long) it;
}
F(rwlock) {
    NEW(pthread_rwlock_t);
    pthread_rwlockattr_t attributes;
    CHECK(pthread_rwlockattr_init(&attributes));
    CHECK(pthread_rwlockattr_setkind_np(&attributes, n & 3));
    if (n & 128) CHECK(pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
    CHECK(pthread_rwlock_init(it, &attributes));
    return (long) it;
}
F(semaphore) { NEW(sem_t); CHECK(sem_init(it, n & 128, n & 127)); return (long) it; }

static struct timespec in(clockid_t clock, long millis) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_sec += millis / 1000;
    t.tv_nsec += millis % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
    return t;
}
static const struct timespec bad = { 0, -1 };

F(lock) { return pthread_mutex_lock(a); }
F(trylock) { return pthread_mutex_trylock(a); }
F(unlock) { return pthread_mutex_unlock(a); }
F(timedlock) { struct timespec t = in(CLOCK_REALTIME, n); return pthread_mutex_timedlock(a, &t); }
F(clocklock) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_mutex_clocklock(a, CLOCK_MONOTONIC, &t); }
F(badlock) { return pthread_mutex_timedlock(a, &bad); }
F(clockless) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_mutex_clocklock(a, CLOCK_PROCESS_CPUTIME_ID, &t); }

F(cond_wait) { return pthread_cond_wait(a, b); }
F(cond_timedwait) { struct timespec t = in(CLOCK_REALTIME, n); return pthread_cond_timedwait(a, b, &t); }
F(cond_monotonic) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_cond_timedwait(a, b, &t); }
F(cond_clockwait) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_cond_clockwait(a, b, CLOCK_MONOTONIC, &t); }
F(cond_bad) { return pthread_cond_timedwait(a, b, &bad); }
F(signal_one) { return pthread_cond_signal(a); }
F(broadcast) { return pthread_cond_broadcast(a); }

F(rdlock) { return pthread_rwlock_rdlock(a); }
F(wrlock) { return pthread_rwlock_wrlock(a); }
F(tryrdlock) { return pthread_rwlock_tryrdlock(a); }
F(trywrlock) { return pthread_rwlock_trywrlock(a); }
F(timedrdlock) { struct timespec t = in(CLOCK_REALTIME, n); return pthread_rwlock_timedrdlock(a, &t); }
F(timedwrlock) { struct timespec t = in(CLOCK_REALTIME, n); return pthread_rwlock_timedwrlock(a, &t); }
F(clockrdlock) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_rwlock_clockrdlock(a, CLOCK_MONOTONIC, &t); }
F(clockwrlock) { struct timespec t = in(CLOCK_MONOTONIC, n); return pthread_rwlock_clockwrlock(a, CLOCK_MONOTONIC, &t); }
F(badwrlock) { return pthread_rwlock_timedwrlock(a, &bad); }
F(rwunlock) { return pthread_rwlock_unlock(a); }

F(sem_take) { return sem_wait(a); }
F(sem_try) { return sem_trywait(a); }
F(sem_timed) { struct timespec t = in(CLOCK_REALTIME, n); return sem_timedwait(a, &t); }
F(sem_clock) { struct timespec t = in(CLOCK_MONOTONIC, n); return sem_clockwait(a, CLOCK_MONOTONIC, &t); }
F(sem_bad) { return sem_timedwait(a, &bad); }
F(sem_give) { return sem_post(a); }

F(barrier) {
    NEW(pthread_barrier_t);
    pthread_barrierattr_t attributes;
    CHECK(pthread_barrierattr_init(&attributes));
    if (n & 128) CHECK(pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
    CHECK(pthread_barrier_init(it, &attributes, n & 127));
    return (long) it;
}
F(barrier_none) { return pthread_barrier_init(a, 0, 0); }
F(barrier_wait) { return pthread_barrier_wait(a); }
F(barrier_destroy) { return pthread_barrier_destroy(a); }

/* ends when the semaphore is posted */
static void *body(void *semaphore) { while (sem_wait(semaphore)); return (void *) 42; }
F(thread) { pthread_t t; CHECK(pthread_create(&t, 0, body, a)); return t; }
static long joined(int error, void *value) { return error ? error : value == (void *) 42 ? 0 : -2; }
F(join) { void *value = 0; int error = pthread_join((pthread_t) a, &value); return joined(error, value); }
F(timedjoin) { void *value = 0; struct timespec t = in(CLOCK_REALTIME, n); int error = pthread_timedjoin_np((pthread_t) a, &value, &t); return joined(error, value); }
F(clockjoin) { void *value = 0; struct timespec t = in(CLOCK_MONOTONIC, n); int error = pthread_clockjoin_np((pthread_t) a, &value, CLOCK_MONOTONIC, &t); return joined(error, value); }
F(self) { return pthread_self(); }

F(spinlock) { NEW(pthread_spinlock_t); CHECK(pthread_spin_init(it, 0)); return (long) it; }
F(spin) { return pthread_spin_lock(a); }
F(unspin) { return pthread_spin_unlock(a); }

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t *gate;
static long times;
static void routine(void) { times++; sem_wait(gate); times++; }
F(do_once) { if (a) gate = a; int error = pthread_once(&once, routine); return error ? -1 : times; }

F(c11_mutex) { NEW(mtx_t); CHECK(mtx_init(it, n)); return (long) it; }
F(c11_lock) { return mtx_lock(a); }
F(c11_trylock) { return mtx_trylock(a); }
F(c11_timedlock) { struct timespec t = in(CLOCK_REALTIME, n); return mtx_timedlock(a, &t); }
F(c11_unlock) { return mtx_unlock(a); }
F(c11_condition) { NEW(cnd_t); CHECK(cnd_init(it)); return (long) it; }
F(c11_wait) { return cnd_wait(a, b); }
F(c11_timedwait) { struct timespec t = in(CLOCK_REALTIME, n); return cnd_timedwait(a, b, &t); }
F(c11_signal) { return cnd_signal(a); }
F(c11_broadcast) { return cnd_broadcast(a); }
static int c11_body(void *semaphore) { while (sem_wait(semaphore)); return 43; }
F(c11_thread) { thrd_t t; CHECK(thrd_create(&t, c11_body, a)); return t; }
F(c11_join) { int value = 0; int error = thrd_join((thrd_t) a, &value); return error ? error : value == 43 ? 0 : -2; }
F(c11_sleep) { struct timespec t = { n / 1000, n % 1000 * 1000000 }; return thrd_sleep(&t, 0); }
static once_flag flag = ONCE_FLAG_INIT;
F(c11_once) { if (a) gate = a; call_once(&flag, routine); return times; }

F(kind_offset) { return offsetof(pthread_mutex_t, __data.__kind); }
F(owner_offset) { return offsetof(pthread_mutex_t, __data.__owner); }
F(count_offset) { return offsetof(pthread_mutex_t, __data.__count); }
F(writer_offset) { return offsetof(pthread_rwlock_t, __data.__cur_writer); }
F(shared_offset) { return offsetof(pthread_rwlock_t, __data.__shared); }
"#;

const NORMAL: c_long = 0;
const RECURSIVE: c_long = 1;
const ERROR_CHECKING: c_long = 2;
const ROBUST: c_long = 16;
const SHARED: c_long = 128;
/// All kinds of mutexes, with priority inheritance, and shared.
const KINDS: [c_long; 11] = [0, 1, 2, 3, ROBUST, ROBUST | 1, ROBUST | 2, 32, 32 | 1, 32 | 2, SHARED];

/// Runs `f` in a greenlet and checks that it waits; then runs `ends`, and it must end. Gives what `f` gave.
fn waits_until<T: 'static>(f: impl FnOnce() -> T + 'static, ends: impl FnOnce()) -> T {
    let greenlet = spawn(f);
    for _ in 0..10 {
        yield_now();
    }
    assert!(!greenlet.is_dead(), "it does not wait");
    ends();
    greenlet.join().unwrap()
}

/// In a process of its own: where hubs of other tests end, those who wait look again, and a call that was lost would not show.
fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    greenserve_tests::in_process(&format!("pthread::{test}"), body);
}

#[test]
fn libc_keeps_what_is_read_of_its_locks_where_it_is_looked_for() {
    let null = Object(std::ptr::null_mut());
    let on_x86 = cfg!(target_arch = "x86_64");
    assert_eq!(call("count_offset", null), 4);
    assert_eq!(call("owner_offset", null), 8);
    assert_eq!(call("kind_offset", null), if on_x86 { 16 } else { 12 });
    assert_eq!(call("writer_offset", null), if on_x86 { 24 } else { 28 });
    assert_eq!(call("shared_offset", null), if on_x86 { 28 } else { 25 });
}

#[test]
fn a_mutex_of_any_kind_keeps_greenlets_of_a_thread_apart() {
    in_time(|| {
        for kind in KINDS {
            for way in ["lock", "timedlock", "clocklock"] {
                let mutex = made("mutex", kind);
                let (held, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
                let greenlets: Vec<_> = (0..8)
                    .map(|_| {
                        let (held, most) = (held.clone(), most.clone());
                        spawn(move || {
                            for _ in 0..10 {
                                assert_eq!(call2(way, mutex, mutex, 30_000), 0, "{way} of kind {kind}");
                                held.set(held.get() + 1);
                                most.set(most.get().max(held.get()));
                                yield_now();
                                held.set(held.get() - 1);
                                assert_eq!(call("unlock", mutex), 0);
                            }
                        })
                    })
                    .collect();
                join_all(&greenlets, None).unwrap();
                greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
                assert_eq!(most.get(), 1, "{way} of kind {kind}");
            }
        }
    });
}

#[test]
fn owners_are_greenlets() {
    in_time(|| {
        for (kind, again) in [
            (RECURSIVE, 0),
            (ERROR_CHECKING, EDEADLK),
            (RECURSIVE | ROBUST, 0),
            (ERROR_CHECKING | ROBUST, EDEADLK),
            (RECURSIVE | 32, 0),
            (ERROR_CHECKING | 32, EDEADLK),
        ] {
            let mutex = made("mutex", kind);
            let body = move || {
                assert_eq!(call("lock", mutex), 0);
                assert_eq!(call("lock", mutex), again);
                assert_eq!(call("timedlock", mutex), again);
                let other = spawn(move || {
                    assert_eq!(call("trylock", mutex), EBUSY, "kind {kind}");
                    assert_eq!(call("unlock", mutex), EPERM, "kind {kind}");
                    assert_eq!(call("timedlock", mutex), ETIMEDOUT, "kind {kind}");
                });
                other.join().unwrap();
                for _ in 0..if again == 0 { 3 } else { 1 } {
                    let busy = spawn(move || call("trylock", mutex)).join().unwrap();
                    assert_eq!(busy, EBUSY, "as often as it was locked");
                    assert_eq!(call("unlock", mutex), 0);
                }
                assert_eq!(call("unlock", mutex), EPERM);
                spawn(move || assert_eq!((call("trylock", mutex), call("unlock", mutex)), (0, 0)))
                    .join()
                    .unwrap();
            };
            spawn(body).join().unwrap();
            // And the greenlet that is the thread's own.
            body();
        }
    });
}

#[test]
fn what_was_locked_before_there_was_a_hub_is_mains() {
    in_time(|| {
        let mutex = made("mutex", RECURSIVE);
        assert_eq!(call("lock", mutex), 0);
        let taken = waits_until(
            move || (call("lock", mutex), call("unlock", mutex)),
            || {
                assert_eq!((call("lock", mutex), call("unlock", mutex)), (0, 0));
                assert_eq!(call("unlock", mutex), 0);
            },
        );
        assert_eq!(taken, (0, 0));
    });
}

#[test]
fn a_normal_mutex_locked_twice_stops_its_greenlet_alone() {
    in_time(|| {
        let mutex = made("mutex", NORMAL);
        let locked = waits_until(
            move || (call("lock", mutex), call("lock", mutex)),
            || assert_eq!(call("unlock", mutex), 0),
        );
        assert_eq!(locked, (0, 0));
    });
}

#[test]
fn a_robust_mutex_of_a_thread_that_died_is_had_with_eownerdead() {
    in_time(|| {
        for kind in [ROBUST, ROBUST | RECURSIVE, ROBUST | ERROR_CHECKING] {
            let mutex = made("mutex", kind);
            let die = std::sync::Arc::new(AtomicBool::new(false));
            let (held, told) = std::sync::mpsc::channel();
            let dies = die.clone();
            thread::spawn(move || {
                assert_eq!(call("lock", mutex), 0);
                held.send(()).unwrap();
                while !dies.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
            told.recv().unwrap();
            let result = waits_until(move || call("lock", mutex), || die.store(true, Ordering::Relaxed));
            assert_eq!(result, libc::EOWNERDEAD);
        }
    });
}

#[test]
fn deadlines_of_mutexes_are_results() {
    let body = || {
        for kind in KINDS {
            let mutex = made("mutex", kind);
            assert_eq!(call("badlock", mutex), 0, "it is free, so nobody looks at the time");
            let holder = mutex;
            let refused = move || {
                assert_eq!(call("timedlock", holder), ETIMEDOUT);
                assert_eq!(call("clocklock", holder), ETIMEDOUT);
                assert_eq!(call("badlock", holder), EINVAL);
                assert_eq!(call("clockless", holder), EINVAL);
            };
            if greenlet::foreign::inside() {
                crate::meanwhile(refused);
            } else {
                thread::spawn(refused).join().unwrap();
            }
            assert_eq!(call("unlock", mutex), 0);
        }
    };
    in_time(body);
    in_time(move || spawn(body).join().unwrap());
}

/// Greenlets of two threads, and two threads without a hub, each doing something many times with a number of its own.
fn everybody(times: usize, body: fn(usize)) {
    let hubs = (0..2).map(|hub| {
        thread::spawn(move || {
            let greenlets: Vec<_> =
                (0..6).map(|one| spawn(move || (0..times).for_each(|_| body(hub * 10 + one)))).collect();
            greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
        })
    });
    let plain = (0..2).map(|one| thread::spawn(move || (0..times).for_each(|_| body(100 + one))));
    hubs.chain(plain).collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
}

const EVERYBODY: usize = 2 * 6 + 2;

/// Gives way now and then, as a greenlet or as a thread.
fn dawdle(seed: u64) {
    match seed % 3 {
        0 => {}
        1 if greenlet::foreign::inside() => yield_now(),
        _ => thread::yield_now(),
    }
}

#[test]
fn greenlets_of_several_threads_and_threads_share_a_mutex() {
    static MUTEXES: OnceLock<Vec<Object>> = OnceLock::new();
    static COUNTS: [AtomicUsize; KINDS.len()] = [const { AtomicUsize::new(0) }; KINDS.len()];
    alone("greenlets_of_several_threads_and_threads_share_a_mutex", || {
        MUTEXES.get_or_init(|| KINDS.map(|kind| made("mutex", kind)).to_vec());
        everybody(200, |who| {
            for (mutex, count) in MUTEXES.get().unwrap().iter().zip(&COUNTS) {
                assert_eq!(call("lock", *mutex), 0);
                let seen = count.load(Ordering::Relaxed);
                dawdle((seen + who) as u64);
                count.store(seen + 1, Ordering::Relaxed);
                assert_eq!(call("unlock", *mutex), 0);
            }
        });
        for (count, kind) in COUNTS.iter().zip(KINDS) {
            assert_eq!(count.load(Ordering::Relaxed), 200 * EVERYBODY, "kind {kind}");
        }
    });
}

#[test]
fn a_wait_for_a_mutex_outlives_a_kill() {
    in_time(|| {
        let mutex = made("mutex", NORMAL);
        assert_eq!(call("lock", mutex), 0);
        let got = Rc::new(Cell::new(None));
        let slot = got.clone();
        let victim = spawn(move || {
            slot.set(Some(call("lock", mutex)));
            sleep(Duration::from_secs(60));
        });
        yield_now();
        let killer = {
            let victim = victim.clone();
            spawn(move || victim.kill())
        };
        for _ in 0..10 {
            yield_now();
        }
        assert!(!victim.is_dead());
        assert_eq!(call("unlock", mutex), 0);
        killer.join().unwrap().unwrap();
        assert_eq!(got.get(), Some(0));
        assert_eq!(call("trylock", mutex), EBUSY);
    });
}

#[test]
fn a_hub_that_ends_takes_nobodys_turn() {
    in_time(|| {
        let mutex = made("mutex", NORMAL);
        assert_eq!(call("lock", mutex), 0);
        let (waits, told) = std::sync::mpsc::channel();
        let ends = thread::spawn(move || {
            std::mem::forget(spawn(move || call("lock", mutex)));
            yield_now();
            waits.send(()).unwrap();
            // The greenlet is called while this waits, and never runs again.
            greenlet::may_block(thread::park);
        });
        told.recv().unwrap();
        let other = thread::spawn(move || {
            spawn(move || (call("lock", mutex), call("unlock", mutex))).join().unwrap()
        });
        thread::sleep(Duration::from_millis(20));
        assert_eq!(call("unlock", mutex), 0);
        ends.thread().unpark();
        ends.join().unwrap();
        assert_eq!(other.join().unwrap(), (0, 0));
    });
}

#[test]
fn a_condition_wakes_greenlets_one_or_all() {
    in_time(|| {
        for kind in [0, 1, SHARED] {
            for mutex in KINDS.map(|kind| made("mutex", kind)) {
                let condition = made("condition", kind);
                let (woken, ready) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
                let greenlets: Vec<_> = (0..6)
                    .map(|_| {
                        let (woken, ready) = (woken.clone(), ready.clone());
                        spawn(move || {
                            assert_eq!(call("lock", mutex), 0);
                            while ready.get() == 0 {
                                assert_eq!(call2("cond_wait", condition, mutex, 0), 0);
                            }
                            ready.set(ready.get() - 1);
                            woken.set(woken.get() + 1);
                            assert_eq!(call("unlock", mutex), 0);
                        })
                    })
                    .collect();
                yield_now();
                assert_eq!(call("lock", mutex), 0, "they have unlocked it");
                ready.set(1);
                assert_eq!(call("signal_one", condition), 0);
                assert_eq!(call("unlock", mutex), 0);
                while woken.get() == 0 {
                    yield_now();
                }
                assert_eq!(woken.get(), 1);
                assert_eq!(call("lock", mutex), 0);
                ready.set(5);
                assert_eq!(call("broadcast", condition), 0);
                assert_eq!(call("unlock", mutex), 0);
                greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
            }
        }
    });
}

#[test]
fn deadlines_of_conditions_are_by_their_clocks() {
    let body = || {
        let (mutex, checking) = (made("mutex", NORMAL), made("mutex", ERROR_CHECKING));
        let (day, monotonic) = (made("condition", 0), made("condition", 1));
        assert_eq!(call("lock", mutex), 0);
        for (way, condition) in [
            ("cond_timedwait", day),
            ("cond_monotonic", monotonic),
            ("cond_clockwait", day),
            ("cond_clockwait", monotonic),
        ] {
            assert_eq!(call2(way, condition, mutex, 20), ETIMEDOUT, "{way}");
            assert_eq!(call("trylock", mutex), EBUSY, "it is locked again");
        }
        // By the other's clock this is long ago.
        assert_eq!(call2("cond_monotonic", day, mutex, 10_000_000), ETIMEDOUT);
        assert_eq!(call2("cond_bad", day, mutex, 0), EINVAL);
        assert_eq!(call("unlock", mutex), 0);
        assert_eq!(call2("cond_timedwait", day, checking, 20), EPERM, "it isn't locked");
    };
    in_time(body);
    in_time(move || crate::meanwhile(body));
}

#[test]
fn a_thread_that_waits_for_a_condition_lets_greenlets_have_the_mutex() {
    static WORK: AtomicUsize = AtomicUsize::new(0);
    alone("a_thread_that_waits_for_a_condition_lets_greenlets_have_the_mutex", || {
        let (mutex, condition) = (made("mutex", NORMAL), made("condition", 0));
        let thread = thread::spawn(move || {
            for _ in 0..500 {
                assert_eq!(call("lock", mutex), 0);
                while WORK.load(Ordering::Relaxed) == 0 {
                    assert_eq!(call2("cond_wait", condition, mutex, 0), 0);
                }
                WORK.fetch_sub(1, Ordering::Relaxed);
                assert_eq!(call("unlock", mutex), 0);
            }
        });
        let greenlets: Vec<_> = (0..5)
            .map(|_| {
                spawn(move || {
                    for _ in 0..100 {
                        assert_eq!(call("lock", mutex), 0);
                        WORK.fetch_add(1, Ordering::Relaxed);
                        yield_now();
                        assert_eq!(call("signal_one", condition), 0);
                        assert_eq!(call("unlock", mutex), 0);
                    }
                })
            })
            .collect();
        greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
        thread.join().unwrap();
        assert_eq!(WORK.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_greenlet_that_waits_for_the_mutex_gets_it_when_a_thread_begins_to_wait_for_a_condition() {
    alone("a_greenlet_that_waits_for_the_mutex_gets_it_when_a_thread_begins_to_wait_for_a_condition", || {
        let (mutex, condition) = (made("mutex", NORMAL), made("condition", 0));
        let stage = std::sync::Arc::new(AtomicUsize::new(0));
        let theirs = stage.clone();
        let thread = thread::spawn(move || {
            assert_eq!(call("lock", mutex), 0);
            theirs.store(1, Ordering::SeqCst);
            while theirs.load(Ordering::SeqCst) == 1 {
                thread::yield_now();
            }
            while theirs.load(Ordering::SeqCst) == 2 {
                assert_eq!(call2("cond_wait", condition, mutex, 0), 0);
            }
            assert_eq!(call("unlock", mutex), 0);
        });
        while stage.load(Ordering::SeqCst) == 0 {
            yield_now();
        }
        let ours = stage.clone();
        let locks = move || {
            assert_eq!(call("lock", mutex), 0);
            ours.store(3, Ordering::SeqCst);
            assert_eq!((call("signal_one", condition), call("unlock", mutex)), (0, 0));
        };
        waits_until(locks, || stage.store(2, Ordering::SeqCst));
        thread.join().unwrap();
    });
}

#[test]
fn greenlets_and_threads_hand_over_by_conditions() {
    static ITEMS: AtomicUsize = AtomicUsize::new(0);
    static LOCKS: OnceLock<[Object; 3]> = OnceLock::new();
    alone("greenlets_and_threads_hand_over_by_conditions", || {
        LOCKS.get_or_init(|| [made("mutex", NORMAL), made("condition", 0), made("condition", 0)]);
        everybody(300, |who| {
            let [mutex, filled, emptied] = *LOCKS.get().unwrap();
            assert_eq!(call("lock", mutex), 0);
            // As many give as take.
            if who % 2 == 0 {
                while ITEMS.load(Ordering::Relaxed) == 3 {
                    assert_eq!(call2("cond_wait", emptied, mutex, 0), 0);
                }
                ITEMS.fetch_add(1, Ordering::Relaxed);
                dawdle(who as u64);
                assert_eq!(call("signal_one", filled), 0);
            } else {
                while ITEMS.load(Ordering::Relaxed) == 0 {
                    assert_eq!(call2("cond_wait", filled, mutex, 0), 0);
                }
                ITEMS.fetch_sub(1, Ordering::Relaxed);
                dawdle(who as u64 + 1);
                assert_eq!(call("signal_one", emptied), 0);
            }
            assert_eq!(call("unlock", mutex), 0);
        });
        assert_eq!(ITEMS.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_plain_thread_can_be_cancelled_while_it_waits_for_a_condition() {
    let library = c::load(
        r"
        #include <pthread.h>
        static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
        static int waits;
        static void unlock(void *m) { pthread_mutex_unlock(m); }
        static void *body(void *arg) {
            pthread_mutex_lock(&mutex);
            pthread_cleanup_push(unlock, &mutex);
            waits = 1;
            for (;;) pthread_cond_wait(&condition, &mutex);
            pthread_cleanup_pop(1);
            return arg;
        }
        int cancelled(void) {
            pthread_t thread;
            void *result;
            pthread_create(&thread, 0, body, 0);
            for (int seen = 0; !seen;) { pthread_mutex_lock(&mutex); seen = waits; pthread_mutex_unlock(&mutex); }
            pthread_cancel(thread);
            pthread_join(thread, &result);
            return result == PTHREAD_CANCELED && pthread_mutex_trylock(&mutex) == 0;
        }
        ",
    );
    // SAFETY: as written above.
    let cancelled = unsafe { library.function::<extern "C" fn() -> c_int>("cancelled") };
    assert_eq!(in_time(move || cancelled()), 1);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn conditions_of_the_old_symbol_version_come_to_the_same_functions() {
    let library = c::load(
        r#"
        #include <pthread.h>
        __asm__(".symver pthread_cond_wait, pthread_cond_wait@GLIBC_2.2.5");
        __asm__(".symver pthread_cond_signal, pthread_cond_signal@GLIBC_2.2.5");
        __asm__(".symver pthread_cond_destroy, pthread_cond_destroy@GLIBC_2.2.5");
        static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
        static int ready;
        int wait_for(void) {
            pthread_mutex_lock(&mutex);
            while (!ready) pthread_cond_wait(&condition, &mutex);
            return pthread_mutex_unlock(&mutex);
        }
        int wake(void) {
            pthread_mutex_lock(&mutex);
            ready = 1;
            pthread_cond_signal(&condition);
            return pthread_mutex_unlock(&mutex);
        }
        int destroy(void) { return pthread_cond_destroy(&condition); }
        "#,
    );
    // SAFETY: as written above.
    let [wait_for, wake, destroy] = ["wait_for", "wake", "destroy"]
        .map(|name| unsafe { library.function::<extern "C" fn() -> c_int>(name) });
    in_time(move || {
        let result = waits_until(move || wait_for(), || assert_eq!(wake(), 0));
        assert_eq!((result, destroy()), (0, 0));
    });
}

#[test]
fn a_rwlock_has_many_readers_or_one_writer() {
    in_time(|| {
        for kind in [0, 2, SHARED] {
            for (read, write) in
                [("rdlock", "wrlock"), ("timedrdlock", "timedwrlock"), ("clockrdlock", "clockwrlock")]
            {
                let lock = made("rwlock", kind);
                let take = move |name| call2(name, lock, lock, 30_000);
                assert_eq!((take(read), take(read)), (0, 0));
                let wrote = waits_until(
                    move || (take(write), call("rwunlock", lock)),
                    || assert_eq!((call("rwunlock", lock), call("rwunlock", lock)), (0, 0)),
                );
                assert_eq!(wrote, (0, 0));
                assert_eq!(take(write), 0);
                assert_eq!((take(write), take(read)), (EDEADLK, EDEADLK), "its own");
                let others = move || {
                    assert_eq!((call("trywrlock", lock), call("tryrdlock", lock)), (EBUSY, EBUSY));
                    assert_eq!(
                        (call("timedwrlock", lock), call("timedrdlock", lock)),
                        (ETIMEDOUT, ETIMEDOUT)
                    );
                    assert_eq!(
                        (call("clockwrlock", lock), call("clockrdlock", lock)),
                        (ETIMEDOUT, ETIMEDOUT)
                    );
                    assert_eq!(call("badwrlock", lock), EINVAL);
                };
                crate::meanwhile(others);
                let readers: Vec<_> = (0..3).map(|_| spawn(move || take(read))).collect();
                let writers: Vec<_> =
                    (0..3).map(|_| spawn(move || (take(write), call("rwunlock", lock)))).collect();
                yield_now();
                assert_eq!(call("rwunlock", lock), 0);
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), 0, "they read at once");
                }
                (0..3).for_each(|_| assert_eq!(call("rwunlock", lock), 0));
                writers.into_iter().for_each(|writer| assert_eq!(writer.join().unwrap(), (0, 0)));
            }
        }
    });
}

#[test]
fn greenlets_of_several_threads_and_threads_share_a_rwlock() {
    static LOCK: OnceLock<Object> = OnceLock::new();
    static STATE: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    alone("greenlets_of_several_threads_and_threads_share_a_rwlock", || {
        LOCK.get_or_init(|| made("rwlock", 0));
        everybody(300, |who| {
            let lock = *LOCK.get().unwrap();
            let [readers, writers, rounds] = &STATE;
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            let writes = (round + who) % 3 == 0;
            assert_eq!(call(if writes { "wrlock" } else { "rdlock" }, lock), 0);
            let mine = if writes { writers } else { readers };
            let before = mine.fetch_add(1, Ordering::SeqCst);
            if writes {
                assert_eq!((before, readers.load(Ordering::SeqCst)), (0, 0));
            }
            dawdle(round as u64);
            if !writes {
                assert_eq!(writers.load(Ordering::SeqCst), 0);
            }
            mine.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(call("rwunlock", lock), 0);
        });
    });
}

#[test]
fn a_semaphore_lets_in_as_many_as_it_counts() {
    in_time(|| {
        for shared in [0, SHARED] {
            for way in ["sem_take", "sem_timed", "sem_clock"] {
                let semaphore = made("semaphore", shared | 2);
                let take = move || call2(way, semaphore, semaphore, 30_000);
                assert_eq!((take(), take(), call("sem_try", semaphore)), (0, 0, libc::EAGAIN));
                assert_eq!(waits_until(take, || assert_eq!(call("sem_give", semaphore), 0)), 0);
                let giver = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    call("sem_give", semaphore)
                });
                crate::meanwhile(move || assert_eq!(take(), 0));
                assert_eq!(giver.join().unwrap(), 0);
                crate::meanwhile(move || {
                    assert_eq!(
                        (call("sem_timed", semaphore), call("sem_clock", semaphore)),
                        (ETIMEDOUT, ETIMEDOUT)
                    );
                });
                assert_eq!(call("sem_bad", semaphore), EINVAL);
            }
        }
    });
}

#[test]
fn greenlets_of_several_threads_and_threads_share_a_semaphore() {
    static SEMAPHORE: OnceLock<Object> = OnceLock::new();
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    alone("greenlets_of_several_threads_and_threads_share_a_semaphore", || {
        SEMAPHORE.get_or_init(|| made("semaphore", 3));
        everybody(300, |who| {
            let semaphore = *SEMAPHORE.get().unwrap();
            assert_eq!(call("sem_take", semaphore), 0);
            let inside = INSIDE.fetch_add(1, Ordering::SeqCst);
            assert!(inside < 3, "{inside} others are in");
            dawdle(who as u64);
            INSIDE.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(call("sem_give", semaphore), 0);
        });
    });
}

#[test]
fn a_signal_handler_posts_a_semaphore_whatever_it_has_interrupted() {
    const POSTS: usize = 50_000;
    let library = c::load(
        r"
        #include <semaphore.h>
        #include <signal.h>
        static sem_t semaphore;
        static void post(int signal) { sem_post(&semaphore); }
        void *prepare(int signal) {
            struct sigaction action = { .sa_handler = post, .sa_flags = SA_RESTART };
            sem_init(&semaphore, 0, 0);
            sigaction(signal, &action, 0);
            return &semaphore;
        }
        ",
    );
    // SAFETY: as written above.
    let prepare = unsafe { library.function::<extern "C" fn(c_int) -> *mut c_void>("prepare") };
    alone("a_signal_handler_posts_a_semaphore_whatever_it_has_interrupted", move || {
        let signal = libc::SIGRTMIN() + 5;
        let semaphore = Object(prepare(signal));
        // SAFETY: always this thread.
        let this = unsafe { libc::pthread_self() };
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let sender = thread::spawn(move || {
            for post in 0..POSTS {
                // One at a time, so that none makes up for another.
                while TAKEN.load(Ordering::SeqCst) < post {
                    std::hint::spin_loop();
                }
                // SAFETY: it waits for this thread.
                assert_eq!(unsafe { libc::pthread_kill(this, signal) }, 0);
            }
        });
        let taker = spawn(move || {
            let take = function("sem_take");
            for post in 0..POSTS {
                // The next one comes at another point of the wait each time.
                for _ in 0..post % 400 {
                    std::hint::spin_loop();
                }
                assert_eq!(take(semaphore.0, semaphore.0, 0), 0);
                TAKEN.fetch_add(1, Ordering::SeqCst);
            }
        });
        taker.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn a_shared_semaphore_is_posted_by_another_process() {
    in_time(|| {
        // SAFETY: new memory.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        // SAFETY: there is room.
        assert_eq!(unsafe { libc::sem_init(memory.cast(), 1, 0) }, 0);
        let semaphore = Object(memory);
        let give = function("sem_give");
        crate::meanwhile(move || {
            // SAFETY: the child does what may be done there.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: as above.
                unsafe {
                    libc::usleep(20_000);
                    give(semaphore.0, semaphore.0, 0);
                    libc::_exit(0);
                }
            }
            assert_eq!(call("sem_take", semaphore), 0);
            let mut status = 0;
            // SAFETY: the place is valid.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        });
    });
}

#[test]
fn a_wait_elsewhere_is_ended_by_a_greenlet() {
    in_time(|| {
        let (mutex, condition, semaphore) =
            (made("mutex", NORMAL), made("condition", 0), made("semaphore", 0));
        let stage = std::sync::Arc::new(AtomicUsize::new(0));
        let seen = stage.clone();
        let thread = thread::spawn(move || {
            assert_eq!(call("sem_take", semaphore), 0);
            assert_eq!(call("lock", mutex), 0);
            seen.store(1, Ordering::SeqCst);
            assert_eq!(call2("cond_wait", condition, mutex, 0), 0);
            assert_eq!(call("unlock", mutex), 0);
        });
        let other = stage.clone();
        let greenlet = spawn(move || {
            assert_eq!(call("sem_give", semaphore), 0);
            eventually(Duration::from_secs(20), || other.load(Ordering::SeqCst) == 1);
            assert_eq!(call("lock", mutex), 0, "the thread is in its wait now");
            assert_eq!(call("signal_one", condition), 0);
            assert_eq!(call("unlock", mutex), 0);
        });
        greenlet.join().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_barrier_lets_go_when_all_have_come() {
    static BARRIERS: OnceLock<[Object; 2]> = OnceLock::new();
    static COME: AtomicUsize = AtomicUsize::new(0);
    static LAST: AtomicUsize = AtomicUsize::new(0);
    const ROUNDS: usize = 200;
    in_time(|| {
        BARRIERS.get_or_init(|| {
            [EVERYBODY as c_long, SHARED | EVERYBODY as c_long].map(|count| made("barrier", count))
        });
        everybody(ROUNDS, |who| {
            for barrier in *BARRIERS.get().unwrap() {
                let come = COME.fetch_add(1, Ordering::SeqCst);
                dawdle((come + who) as u64);
                match call("barrier_wait", barrier) {
                    -1 => _ = LAST.fetch_add(1, Ordering::SeqCst),
                    other => assert_eq!(other, 0),
                }
                assert!(COME.load(Ordering::SeqCst) / EVERYBODY > come / EVERYBODY, "not all have come");
            }
        });
        assert_eq!(LAST.load(Ordering::SeqCst), 2 * ROUNDS, "one of them each time");
        for barrier in *BARRIERS.get().unwrap() {
            assert_eq!(call("barrier_destroy", barrier), 0);
            assert_eq!(call("barrier_none", barrier), EINVAL);
        }
    });
}

#[test]
fn a_barrier_can_be_destroyed_by_the_first_who_has_left_it() {
    in_time(|| {
        for _ in 0..200 {
            let barrier = made("barrier", 2);
            let other = spawn(move || call("barrier_wait", barrier));
            yield_now();
            assert_eq!((call("barrier_wait", barrier), call("barrier_destroy", barrier)), (-1, 0));
            assert!(other.is_dead(), "it had to leave");
        }
    });
}

#[test]
fn joining_a_thread_parks_the_greenlet() {
    let body = || {
        let semaphore = made("semaphore", 0);
        let inside = greenlet::foreign::inside();
        for way in ["join", "timedjoin", "clockjoin"] {
            let start = function("thread");
            let thread =
                Object(std::ptr::with_exposed_provenance_mut(start(semaphore.0, semaphore.0, 0) as usize));
            assert_eq!(call2("timedjoin", thread, thread, 20), ETIMEDOUT);
            assert_eq!(call2("clockjoin", thread, thread, 20), ETIMEDOUT);
            let join = move || call2(way, thread, thread, 30_000);
            let give = move || assert_eq!(call("sem_give", semaphore), 0);
            let result = if inside {
                waits_until(join, give)
            } else {
                give();
                join()
            };
            assert_eq!(result, 0, "{way}");
        }
        let null = std::ptr::null_mut();
        let this = Object(std::ptr::with_exposed_provenance_mut(function("self")(null, null, 0) as usize));
        assert_eq!(call("join", this), EDEADLK);
    };
    in_time(body);
    in_time(move || spawn(body).join().unwrap());
}

#[test]
fn std_joins_many_threads_from_many_greenlets_at_once() {
    in_time(|| {
        let open = std::sync::Arc::new(AtomicBool::new(false));
        let greenlets: Vec<_> = (0..50)
            .map(|number| {
                let open = open.clone();
                spawn(move || {
                    let thread = thread::spawn(move || {
                        while !open.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(1));
                        }
                        number
                    });
                    thread.join().unwrap()
                })
            })
            .collect();
        yield_now();
        open.store(true, Ordering::Relaxed);
        for (number, greenlet) in greenlets.into_iter().enumerate() {
            assert_eq!(greenlet.join().unwrap(), number);
        }
    });
}

#[test]
fn what_is_done_once_is_waited_for_by_other_greenlets() {
    in_time(|| {
        let gate = made("semaphore", 0);
        for (name, before) in [("do_once", 0), ("c11_once", 2)] {
            let once = function(name);
            let null = std::ptr::null_mut();
            let begins = gate.0.expose_provenance();
            let greenlets: Vec<_> = (0..4)
                .map(|_| {
                    spawn(move || {
                        once(std::ptr::with_exposed_provenance_mut(begins), std::ptr::null_mut(), 0)
                    })
                })
                .collect();
            yield_now();
            let thread = thread::spawn(move || once(std::ptr::null_mut(), std::ptr::null_mut(), 0));
            for _ in 0..5 {
                yield_now();
            }
            assert!(greenlets.iter().all(|greenlet| !greenlet.is_dead()));
            assert_eq!(call("sem_give", gate), 0);
            for greenlet in greenlets {
                assert_eq!(greenlet.join().unwrap(), before + 2, "done, and once");
            }
            assert_eq!(thread.join().unwrap(), before + 2);
            assert_eq!(once(null, null, 0), before + 2);
        }
    });
}

#[test]
fn a_spinning_greenlet_lets_the_owner_run() {
    in_time(|| {
        let lock = made("spinlock", 0);
        assert_eq!(call("spin", lock), 0);
        let spun = waits_until(
            move || (call("spin", lock), call("unspin", lock)),
            || assert_eq!(call("unspin", lock), 0),
        );
        assert_eq!(spun, (0, 0));
        let plain = thread::spawn(move || (call("spin", lock), call("unspin", lock)));
        assert_eq!(plain.join().unwrap(), (0, 0));
    });
}

#[test]
fn c11s_calls_wait_as_posixs_do() {
    const BUSY: c_int = 1;
    const ERROR: c_int = 2;
    const TIMED_OUT: c_int = 4;
    in_time(|| {
        // mtx_plain, mtx_recursive, mtx_timed
        for kind in 0..3 {
            let (mutex, condition) = (made("c11_mutex", kind), made("c11_condition", 0));
            assert_eq!(call("c11_lock", mutex), 0);
            crate::meanwhile(move || assert_eq!(call("c11_timedlock", mutex), TIMED_OUT));
            let tried = spawn(move || call("c11_trylock", mutex)).join().unwrap();
            assert_eq!(tried, BUSY);
            if kind == 1 {
                assert_eq!(spawn(move || call("c11_unlock", mutex)).join().unwrap(), ERROR, "another's");
            }
            let locked = Rc::new(Cell::new(false));
            let tells = locked.clone();
            let waits = move || {
                assert_eq!(call("c11_lock", mutex), 0);
                tells.set(true);
                assert_eq!(call2("c11_wait", condition, mutex, 0), 0);
                assert_eq!(call("c11_unlock", mutex), 0);
            };
            let end = |name: &'static str| {
                move || {
                    assert_eq!(call("c11_lock", mutex), 0);
                    assert_eq!((call(name, condition), call("c11_unlock", mutex)), (0, 0));
                }
            };
            waits_until(waits.clone(), || {
                assert_eq!(call("c11_unlock", mutex), 0);
                while !locked.get() {
                    yield_now();
                }
                end("c11_signal")();
            });
            waits_until(waits, end("c11_broadcast"));
            assert_eq!(call("c11_lock", mutex), 0);
            assert_eq!(call2("c11_timedwait", condition, mutex, 20), TIMED_OUT);
            assert_eq!(call("c11_unlock", mutex), 0);
        }
        let semaphore = made("semaphore", 0);
        let start = function("c11_thread");
        let thread =
            Object(std::ptr::with_exposed_provenance_mut(start(semaphore.0, semaphore.0, 0) as usize));
        let joined =
            waits_until(move || call("c11_join", thread), || assert_eq!(call("sem_give", semaphore), 0));
        assert_eq!(joined, 0);
        crate::meanwhile(move || assert_eq!(call("c11_sleep", semaphore), 0));
    });
}

#[test]
fn cpps_locks_wait_in_greenlets() {
    let library = c::load_cpp(
        r#"
        #include <condition_variable>
        #include <chrono>
        #include <mutex>
        #include <shared_mutex>
        #include <stdexcept>
        #include <thread>
        using namespace std::chrono_literals;
        static std::mutex mutex;
        static std::recursive_timed_mutex recursive;
        static std::shared_mutex shared;
        static std::condition_variable condition;
        static std::once_flag flag;
        static int turn, thrown, done;
        // Two of these have to take turns.
        extern "C" int take_turns(int me) {
            for (int round = 0; round < 50; round++) {
                std::unique_lock<std::mutex> lock(mutex);
                if (!condition.wait_for(lock, 30s, [&] { return turn % 2 == me; })) return -1;
                turn++;
                condition.notify_all();
            }
            return 0;
        }
        extern "C" int nap(void) {
            std::unique_lock<std::mutex> lock(mutex);
            return condition.wait_for(lock, 20ms) == std::cv_status::timeout;
        }
        extern "C" void hold(void) { recursive.lock(); recursive.lock(); shared.lock(); }
        extern "C" void let_go(void) { recursive.unlock(); recursive.unlock(); shared.unlock(); }
        extern "C" int held(void) {
            return !recursive.try_lock() && !recursive.try_lock_for(20ms) && !shared.try_lock_shared() && !shared.try_lock();
        }
        extern "C" int once(void) {
            try {
                std::call_once(flag, [] {
                    std::this_thread::sleep_for(5ms);
                    if (!thrown++) throw std::runtime_error("the first time");
                    done++;
                });
                return done;
            } catch (std::runtime_error &) { return -1; }
        }
        extern "C" int join(void) {
            int ran = 0;
            std::thread thread([&] { take_turns(0); ran = 1; });
            thread.join();
            return ran;
        }
        "#,
    );
    type Plain = extern "C" fn() -> c_int;
    // SAFETY: as written above.
    let take_turns = unsafe { library.function::<extern "C" fn(c_int) -> c_int>("take_turns") };
    // SAFETY: as above; what gives nothing is asked for nothing.
    let [nap, hold, let_go, held, once, join] = ["nap", "hold", "let_go", "held", "once", "join"]
        .map(|name| unsafe { library.function::<Plain>(name) });
    in_time(move || {
        let turns = [0, 1].map(|me| spawn(move || take_turns(me)));
        turns.into_iter().for_each(|greenlet| assert_eq!(greenlet.join().unwrap(), 0));
        crate::meanwhile(move || assert_eq!(nap(), 1));
        hold();
        crate::meanwhile(move || assert_eq!(held(), 1));
        let_go();
        assert_eq!(spawn(move || once()).join().unwrap(), -1, "an exception leaves it undone");
        let results: Vec<_> = (0..4).map(|_| spawn(move || once())).collect();
        results.into_iter().for_each(|greenlet| assert_eq!(greenlet.join().unwrap(), 1));
        // A thread and a greenlet take turns while a greenlet joins that thread.
        let joins = spawn(move || join());
        let takes = spawn(move || take_turns(1));
        assert_eq!((joins.join().unwrap(), takes.join().unwrap()), (1, 0));
    });
}

#[test]
fn a_child_of_a_fork_finds_no_lock_held_by_a_thread_that_isnt_there() {
    static STOP: AtomicBool = AtomicBool::new(false);
    in_time(|| {
        let locks: Vec<_> = (0..64).map(|number| made("mutex", number % 2)).collect();
        let busy: Vec<_> = (0..2)
            .map(|_| {
                let locks = locks.clone();
                thread::spawn(move || {
                    let greenlets: Vec<_> = (0..4)
                        .map(|_| {
                            let locks = locks.clone();
                            spawn(move || {
                                for lock in locks.iter().cycle().take_while(|_| !STOP.load(Ordering::Relaxed))
                                {
                                    assert_eq!(call("lock", *lock), 0);
                                    yield_now();
                                    assert_eq!(call("unlock", *lock), 0);
                                }
                            })
                        })
                        .collect();
                    greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
                })
            })
            .collect();
        // Those of the child, which meet the others' places in the lists.
        let own: Vec<_> = (0..512).map(|number| made("mutex", number % 2)).collect();
        let (lock, unlock, give) = (function("lock"), function("unlock"), function("sem_give"));
        let semaphore = made("semaphore", 0);
        spawn(move || {
            for _ in 0..100 {
                // SAFETY: the child does what may be done there.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    for object in &own {
                        lock(object.0, object.0, 0);
                        unlock(object.0, object.0, 0);
                        give(semaphore.0, semaphore.0, 0);
                    }
                    // SAFETY: as above.
                    unsafe { libc::_exit(0) };
                }
                let mut status = -1;
                // SAFETY: the place is valid.
                eventually(
                    Duration::from_secs(10),
                    || unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child,
                );
                assert_eq!(status, 0);
            }
        })
        .join()
        .unwrap();
        STOP.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
