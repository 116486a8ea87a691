//! Signal handlers: what they call is the plain call, and they are set as the program says.

use std::cell::Cell;
use std::ffi::c_int;
use std::rc::Rc;

use std::sync::atomic::{AtomicBool, Ordering};

use greenserve_tests::{PATIENCE, c, eventually, in_process, is_in_process, process_of};

/// Handlers in C, each with a call that would park the greenlet if it were not in a handler.
const HANDLERS: &str = r#"
    #include <setjmp.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/wait.h>
    #include <time.h>
    #include <unistd.h>

    static volatile int handled, code, nested, deepest, masked, result;
    static sigjmp_buf out;
    int times_handled(void) { return handled; }
    int last_code(void) { return code; }

    static int snooze(void) { struct timespec t = { 0, 2000000 }; return nanosleep(&t, 0); }
    int sleeps(void) { return snooze(); }
    static void plain(int signal) { result = snooze(); handled++; }
    static void full(int signal, siginfo_t *info, void *context) {
        sigset_t now; sigprocmask(SIG_BLOCK, 0, &now);
        masked = sigismember(&now, SIGUSR2); code = info->si_code; result = snooze(); handled++;
    }
    static void again(int signal) {
        if (++nested > deepest) deepest = nested;
        if (deepest < 3) raise(signal);
        nested--; result = snooze(); handled++;
    }
    static void jumps(int signal) { snooze(); handled++; siglongjmp(out, 1); }

    static struct sigaction with(void *handler, int flags) {
        struct sigaction a; memset(&a, 0, sizeof a); a.sa_flags = flags; a.sa_handler = handler;
        sigemptyset(&a.sa_mask); sigaddset(&a.sa_mask, SIGUSR2); return a;
    }
    /* Sets and raises; handlers have run when raise returns. */
    int plain_once(int signal) {
        struct sigaction a = with(plain, 0); result = 1;
        if (sigaction(signal, &a, 0)) return 1;
        raise(signal); return result;
    }
    int on_the_alternate_stack(int signal) {
        struct sigaction a = with(plain, SA_ONSTACK); result = 1;
        if (sigaction(signal, &a, 0)) return 1;
        raise(signal); return result;
    }
    int full_once(int signal) {
        struct sigaction a = with(full, SA_SIGINFO); result = 1;
        if (sigaction(signal, &a, 0)) return 1;
        raise(signal);
        struct sigaction now; sigaction(signal, 0, &now);
        /* glibc shows that the kernel has a way back (SA_RESTORER). */
        if (now.sa_sigaction != full || (now.sa_flags & ~0x04000000) != a.sa_flags || memcmp(&now.sa_mask, &a.sa_mask, 8)) return 2;
        if (!masked || code != SI_TKILL) return 3;
        return result;
    }
    int nested_thrice(int signal) {
        struct sigaction a = with(again, SA_NODEFER); deepest = nested = 0; result = 1;
        if (sigaction(signal, &a, 0)) return 1;
        raise(signal); return deepest == 3 ? result : 2;
    }
    int reset(int signal) {
        struct sigaction a = with(plain, SA_RESETHAND), now; result = 1;
        if (sigaction(signal, &a, 0)) return 1;
        sigaction(signal, 0, &now); if (now.sa_handler != plain) return 2;
        raise(signal);
        sigaction(signal, 0, &now); if (now.sa_handler != SIG_DFL) return 3;
        return result;
    }
    int what_was_there(int signal) {
        struct sigaction a = with(plain, 0), b = with(again, SA_RESTART), old;
        struct sigaction none = with(SIG_IGN, 0), first = with(SIG_DFL, 0);
        sigaction(signal, &first, 0);
        if (sigaction(signal, &a, &old) || old.sa_handler != SIG_DFL) return 1;
        /* The same memory for both. */
        struct sigaction both = b, *same = &both;
        __asm__("" : "+r"(same));
        if (sigaction(signal, &both, same) || both.sa_handler != plain) return 2;
        if (sigaction(signal, &none, &old) || old.sa_handler != again) return 3;
        if (sigaction(signal, &a, &old) || old.sa_handler != SIG_IGN) return 4;
        /* What was there is put back, as libraries do. */
        if (sigaction(signal, &b, &old) || sigaction(signal, &old, 0)) return 5;
        if (sigaction(signal, 0, &old) || old.sa_handler != plain) return 6;
        if (sigaction(SIGKILL, &a, 0) != -1 || sigaction(1000, 0, &old) != -1) return 7;
        raise(signal);
        return result;
    }
    typedef void (*handler_t)(int);
    extern handler_t __sysv_signal(int, handler_t), bsd_signal(int, handler_t);
    extern int __sigaction(int, const struct sigaction *, struct sigaction *);
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    int other_names(int number) {
        struct sigaction now;
        if (signal(number, SIG_DFL) == SIG_ERR) return 1;
        if (signal(number, plain) != SIG_DFL) return 2;
        __sigaction(number, 0, &now);
        if (now.sa_handler != plain || !(now.sa_flags & SA_RESTART)) return 3;
        result = 1; raise(number); if (result) return 4;
        if (bsd_signal(number, again) != plain) return 5;
        if (ssignal(number, plain) != again) return 6;
        if (sigset(number, again) != plain) return 7;
        if (sigset(number, SIG_HOLD) != again) return 8;
        if (sigset(number, plain) != SIG_HOLD) return 9;
        if (sysv_signal(number, again) != plain) return 10;
        if (__sysv_signal(number, plain) != again) return 11;
        sigaction(number, 0, &now);
        if (now.sa_handler != plain || !(now.sa_flags & SA_RESETHAND)) return 12;
        result = 1; raise(number); if (result) return 13;
        if (signal(number, SIG_DFL) != SIG_DFL) return 14;
        if (signal(1000, plain) != SIG_ERR) return 15;
        return 0;
    }
    int in_a_child(int signal) {
        struct sigaction a = with(plain, 0), old; sigaction(signal, &a, 0);
        pid_t child = fork();
        if (!child) {
            result = 1; raise(signal);
            sigaction(signal, 0, &old);
            _exit(result ? 1 : old.sa_handler == plain ? 0 : 2);
        }
        int status; waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
    }
    __attribute__((noinline)) static void from_further_down(int signal) { char room[4096]; memset(room, 1, sizeof room);
        __asm__ volatile("" :: "r"(room) : "memory"); raise(signal); }
    int leaves_by_a_jump(int signal) {
        struct sigaction a = with(jumps, SA_NODEFER); sigaction(signal, &a, 0);
        if (!sigsetjmp(out, 1)) { from_further_down(signal); return 1; }
        return 0;
    }
"#;

/// Runs a function of C with a signal's number in a greenlet, when another is ready to run. Gives what it returned, and whether the
/// other one ran meanwhile.
fn beside(function: extern "C" fn(c_int) -> c_int, signal: c_int) -> (c_int, bool) {
    let ran = Rc::new(Cell::new(false));
    let seen = ran.clone();
    let calls = greenlet::spawn(move || (function(signal), seen.get()));
    greenlet::spawn(move || ran.set(true));
    calls.join().unwrap()
}

fn handlers() -> c::Library {
    c::load(HANDLERS)
}

fn function(library: &c::Library, name: &str) -> extern "C" fn(c_int) -> c_int {
    // SAFETY: all those that are asked for are such functions.
    unsafe { library.function(name) }
}

#[test]
fn a_handler_that_interrupts_a_greenlet_makes_plain_calls() {
    in_process("signals::a_handler_that_interrupts_a_greenlet_makes_plain_calls", || {
        let library = handlers();
        for name in ["plain_once", "full_once", "nested_thrice", "reset", "on_the_alternate_stack"] {
            assert_eq!(beside(function(&library, name), libc::SIGUSR1), (0, false), "{name}");
            // main is interrupted in the same way
            assert_eq!(function(&library, name)(libc::SIGUSR1), 0, "{name}");
        }
        // SAFETY: as written in C.
        let times: extern "C" fn() -> c_int = unsafe { library.function("times_handled") };
        assert_eq!(times(), 2 * (1 + 1 + 3 + 1 + 1));
        // afterwards calls park again
        // SAFETY: as written in C, which looks at no argument.
        let sleeps: extern "C" fn(c_int) -> c_int = unsafe { library.function("sleeps") };
        assert_eq!(beside(sleeps, 0), (0, true));
    });
}

#[test]
fn a_program_sees_its_own_handlers() {
    in_process("signals::a_program_sees_its_own_handlers", || {
        let library = handlers();
        for name in ["what_was_there", "other_names"] {
            assert_eq!(beside(function(&library, name), libc::SIGUSR1), (0, false), "{name}");
            assert_eq!(function(&library, name)(libc::SIGUSR1), 0, "{name}");
            let plainly = function(&handlers(), name);
            let plainly = std::thread::spawn(move || plainly(libc::SIGUSR2));
            assert_eq!(plainly.join().unwrap(), 0, "{name}");
        }
    });
}

#[test]
fn handlers_work_in_the_child_of_a_fork() {
    in_process("signals::handlers_work_in_the_child_of_a_fork", || {
        let library = handlers();
        let child = function(&library, "in_a_child");
        assert_eq!(greenlet::spawn(move || child(libc::SIGUSR1)).join().unwrap(), 0);
    });
}

#[test]
fn a_handler_that_jumps_away_is_noticed() {
    in_process("signals::a_handler_that_jumps_away_is_noticed", || {
        let library = handlers();
        let jumps = function(&library, "leaves_by_a_jump");
        // SAFETY: as written in C, which looks at no argument.
        let sleeps: extern "C" fn(c_int) -> c_int = unsafe { library.function("sleeps") };
        let (jumped, after) =
            greenlet::spawn(move || (jumps(libc::SIGUSR1), beside(sleeps, 0))).join().unwrap();
        assert_eq!((jumped, after), (0, (0, true)));
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        let same = greenlet::spawn(move || (jumps(libc::SIGUSR1), sleeps(0), seen.get()));
        greenlet::spawn(move || ran.set(true));
        assert_eq!(same.join().unwrap(), (0, 0, true), "in the greenlet that was interrupted itself");
    });
}

#[test]
fn handlers_of_rusts_own_and_of_the_runtime_go_on_working() {
    in_process("signals::handlers_of_rusts_own_and_of_the_runtime_go_on_working", || {
        // A handler that is set by the runtime, by way of a crate.
        let came = greenlet::spawn(|| {
            let signals = Rc::new(Cell::new(0));
            let count = signals.clone();
            let usr1 = greenlet::signal::Signal::USR1;
            let _handler = greenlet::signal::on(usr1, move || count.set(count.get() + 1)).unwrap();
            for expected in 1..=3 {
                // SAFETY: there is a handler.
                unsafe { libc::raise(libc::SIGUSR1) };
                while signals.get() < expected {
                    greenlet::sleep(std::time::Duration::from_millis(1));
                }
            }
            signals.get()
        });
        assert_eq!(came.join().unwrap(), 3);
    });
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "the stack is to overflow")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + frame[7]
}

#[test]
fn an_overflow_is_reported_by_the_runtimes_handler() {
    let test = "signals::an_overflow_is_reported_by_the_runtimes_handler";
    if is_in_process(test) {
        // no core file for a crash on purpose
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a live rlimit which the kernel only reads.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
        let _ = greenlet::Builder::new().name("too-deep").spawn(|| recurse(0)).unwrap().join();
        return;
    }
    let output = process_of(test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("too-deep") && said.contains("overflow"), "{said}");
}

/// Whether it has begun to, and makes no more calls.
static COMPUTES: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn computes_for_ever(begun: std::sync::mpsc::Sender<greenlet::inspect::Freezer>) {
    begun.send(greenlet::inspect::freezer().unwrap()).unwrap();
    loop {
        COMPUTES.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_monitor_hears_by_its_signal_who_holds_the_hub() {
    in_process("signals::the_monitor_hears_by_its_signal_who_holds_the_hub", || {
        let (begun, told) = std::sync::mpsc::channel();
        // The thread is stopped for good.
        std::thread::spawn(move || {
            let _ =
                greenlet::Builder::new().name("busy").spawn(move || computes_for_ever(begun)).unwrap().join();
        });
        let freezer = told.recv().unwrap();
        eventually(PATIENCE, || COMPUTES.load(Ordering::Relaxed));
        let frozen = freezer.freeze().expect("it answers").running();
        assert!(frozen.contains("busy") && frozen.contains("computes_for_ever"), "{frozen}");
        assert!(!frozen.contains("greenlet_interpose"), "the handler's own calls are left out: {frozen}");
    });
}

#[test]
fn a_handler_may_post_a_semaphore_while_its_thread_forks() {
    in_process("signals::a_handler_may_post_a_semaphore_while_its_thread_forks", || {
        let library = c::load(
            r"
            #include <pthread.h>
            #include <semaphore.h>
            #include <signal.h>
            #include <sys/wait.h>
            #include <unistd.h>
            static sem_t given;
            static void posts(int signal) { sem_post(&given); }
            static void prepare(void) { raise(SIGUSR1); }
            int begins(void) {
                signal(SIGUSR1, posts);
                return sem_init(&given, 0, 0) || pthread_atfork(prepare, 0, 0);
            }
            int waits(void) { return sem_wait(&given); }
            int forks(void) {
                pid_t child = fork(); int status;
                if (!child) _exit(3);
                return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
            }
            ",
        );
        // SAFETY: as written above.
        let [begins, waits, forks] = ["begins", "waits", "forks"]
            .map(|name| unsafe { library.function::<extern "C" fn() -> c_int>(name) });
        // What is to be run at a fork is set before anybody waits, so that it is run when all lists are held.
        assert_eq!(begins(), 0);
        let waiting = greenlet::spawn(move || waits());
        greenlet::yield_now();
        assert_eq!(forks(), 3);
        assert_eq!(waiting.join().unwrap(), 0);
    });
}
