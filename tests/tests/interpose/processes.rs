//! Waiting for processes: the other greenlet is what ends the process.

use std::ffi::c_int;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use greenserve_tests::{c, in_process, in_time};

/// Each waits for the child `pid` in its own way, and gives its exit status, -1 with an error, or a number above 1000 where something is wrong.
const WAITS: &str = r#"
    #include <errno.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/resource.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <unistd.h>

    /* A child that ends by the number that it reads. */
    int begins(int *to) {
        int ends[2]; if (pipe(ends)) return -1;
        pid_t child = fork();
        if (!child) {
            char byte; close(ends[1]);
            _exit(syscall(SYS_read, ends[0], &byte, 1) == 1 ? byte : 99);
        }
        close(ends[0]); *to = ends[1];
        return child;
    }
    static int code(pid_t got, pid_t pid, int status) {
        if (got == -1) return -1;
        if (got != pid) return 1001;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1002;
    }
    int by_waitpid(pid_t pid) { int s; pid_t got = waitpid(pid, &s, 0); return code(got, pid, s); }
    int by_waitpid_with_stops(pid_t pid) { int s; pid_t got = waitpid(pid, &s, WUNTRACED | WCONTINUED); return code(got, pid, s); }
    int by_waitpid_of_the_group(pid_t pid) { int s; pid_t got = waitpid(0, &s, 0); return code(got, pid, s); }
    int by_wait(pid_t pid) { int s; pid_t got = wait(&s); return code(got, pid, s); }
    int by_wait3(pid_t pid) {
        struct rusage u; memset(&u, 0, sizeof u); int s; pid_t got = wait3(&s, 0, &u);
        return u.ru_maxrss ? code(got, pid, s) : 1003;
    }
    int by_wait4(pid_t pid) {
        struct rusage u; memset(&u, 0, sizeof u); int s; pid_t got = wait4(pid, &s, 0, &u);
        return u.ru_maxrss ? code(got, pid, s) : 1003;
    }
    static int told(int result, siginfo_t *i, pid_t pid) {
        if (result) return -1;
        if (i->si_pid != pid || i->si_signo != SIGCHLD || i->si_code != CLD_EXITED) return 1004;
        return i->si_status;
    }
    int by_waitid(pid_t pid) { siginfo_t i; int r = waitid(P_PID, pid, &i, WEXITED); return told(r, &i, pid); }
    int by_waitid_of_any(pid_t pid) { siginfo_t i; int r = waitid(P_ALL, 0, &i, WEXITED); return told(r, &i, pid); }
    int by_a_descriptor(pid_t pid) {
        int fd = syscall(SYS_pidfd_open, pid, 0); siginfo_t i;
        int r = waitid(3 /* P_PIDFD */, fd, &i, WEXITED); close(fd); return told(r, &i, pid);
    }
    int leaving_it(pid_t pid) {
        siginfo_t i; int r = waitid(P_PID, pid, &i, WEXITED | WNOWAIT);
        int told_first = told(r, &i, pid), later = by_waitpid(pid);
        return told_first == later ? later : 1005;
    }
    int without_a_look(pid_t pid) { return waitid(P_PID, pid, 0, WEXITED) ? -1 : 7; }

    int stops(pid_t pid) {
        int s; if (waitpid(pid, &s, WUNTRACED) != pid || !WIFSTOPPED(s) || WSTOPSIG(s) != SIGSTOP) return 1006;
        kill(pid, SIGCONT);
        siginfo_t i;
        if (waitid(P_PID, pid, &i, WCONTINUED) || i.si_code != CLD_CONTINUED) return 1007;
        return 0;
    }
    int fails(pid_t pid) {
        int s; siginfo_t i;
        errno = 0; if (waitpid(pid, &s, 0) != -1 || errno != ECHILD) return 1;
        errno = 0; if (waitpid(pid, &s, 0x40000000 >> 4) != -1 || errno != EINVAL) return 2;
        errno = 0; if (waitid(P_PID, pid, &i, WEXITED) != -1 || errno != ECHILD) return 3;
        errno = 0; if (waitid(P_PID, pid, &i, 0) != -1 || errno != EINVAL) return 4;
        errno = 0; if (waitid(3, 9999, &i, WEXITED) != -1 || errno != EBADF) return 5;
        return 0;
    }
    int does_not_hang(pid_t pid) {
        int s; siginfo_t i; memset(&i, 1, sizeof i); errno = 0;
        if (waitpid(pid, &s, WNOHANG)) return 1;
        if (waitid(P_PID, pid, &i, WEXITED | WNOHANG) || i.si_pid) return 2;
        int fd = syscall(SYS_pidfd_open, pid, 04000 /* PIDFD_NONBLOCK */);
        if (waitid(3, fd, &i, WEXITED) != -1 || errno != EAGAIN) return 3;
        close(fd);
        return 0;
    }
    int is_given_up(pid_t pid) { int s; errno = 0; return waitpid(pid, &s, 0) == -1 ? errno : 0; }

    int runs(const char *command) { errno = 0; int s = system(command); return WIFEXITED(s) ? WEXITSTATUS(s) : 1008; }
    int has_a_shell(void) { return system(0); }
    int reads(const char *command) {
        FILE *f = popen(command, "w"); if (!f) return 1009;
        int s = pclose(f); return WIFEXITED(s) ? WEXITSTATUS(s) : 1010;
    }
"#;

type Wait = extern "C" fn(c_int) -> c_int;

/// A child of its own kind: ends by the code that is [told](Self::end) to it.
struct Ends {
    pid: c_int,
    to: c_int,
}

impl Ends {
    fn begin(library: &c::Library) -> Ends {
        // SAFETY: as written in C.
        let begins: unsafe extern "C" fn(*mut c_int) -> c_int = unsafe { library.function("begins") };
        let mut to = -1;
        // SAFETY: the pointer is valid.
        let pid = unsafe { begins(&raw mut to) };
        assert!(pid > 0 && to >= 0);
        Ends { pid, to }
    }

    fn end(&self, code: u8) {
        // SAFETY: the buffer is valid for one byte; the descriptor is ours.
        unsafe {
            assert_eq!(libc::write(self.to, (&raw const code).cast(), 1), 1);
            libc::close(self.to);
        }
    }
}

/// Waits in a greenlet, while another one ends the child, when the first has begun to wait.
fn ended_by_another(wait: Wait, library: &c::Library) -> c_int {
    let child = Ends::begin(library);
    let pid = child.pid;
    let waits = greenlet::spawn(move || wait(pid));
    let ends = greenlet::spawn(move || child.end(7));
    ends.join().unwrap();
    waits.join().unwrap()
}

fn wait(library: &c::Library, name: &str) -> Wait {
    // SAFETY: all that are asked for are such functions.
    unsafe { library.function(name) }
}

#[test]
fn every_way_to_wait_parks_until_the_child_has_ended() {
    in_process("processes::every_way_to_wait_parks_until_the_child_has_ended", || {
        let library = c::load(WAITS);
        let ways = [
            "by_waitpid",
            "by_waitpid_with_stops",
            "by_waitpid_of_the_group",
            "by_wait",
            "by_wait3",
            "by_wait4",
            "by_waitid",
            "by_waitid_of_any",
            "by_a_descriptor",
            "leaving_it",
            "without_a_look",
        ];
        for way in ways {
            assert_eq!(ended_by_another(wait(&library, way), &library), 7, "{way}");
            // a thread without a hub
            let (wait, child) = (wait(&library, way), Ends::begin(&library));
            let pid = child.pid;
            let plainly = std::thread::spawn(move || wait(pid));
            child.end(7);
            assert_eq!(plainly.join().unwrap(), 7, "{way}");
        }
    });
}

#[test]
fn stops_are_heard_of() {
    in_process("processes::stops_are_heard_of", || {
        let library = c::load(WAITS);
        let child = Ends::begin(&library);
        let (stops, pid) = (wait(&library, "stops"), child.pid);
        let waits = greenlet::spawn(move || stops(pid));
        // SAFETY: it is our child.
        let stopper = greenlet::spawn(move || unsafe { libc::kill(pid, libc::SIGSTOP) });
        assert_eq!((stopper.join().unwrap(), waits.join().unwrap()), (0, 0));
        child.end(3);
        assert_eq!(wait(&library, "by_waitpid")(pid), 3);
    });
}

#[test]
fn errors_and_calls_that_do_not_hang_are_as_ever() {
    in_process("processes::errors_and_calls_that_do_not_hang_are_as_ever", || {
        let library = c::load(WAITS);
        let (fails, hangs) = (wait(&library, "fails"), wait(&library, "does_not_hang"));
        let child = Ends::begin(&library);
        let pid = child.pid;
        let all = move || (fails(1), hangs(pid));
        assert_eq!(std::thread::spawn(all).join().unwrap(), (0, 0));
        assert_eq!(greenlet::spawn(all).join().unwrap(), (0, 0));
        child.end(0);
        assert_eq!(wait(&library, "by_waitpid")(pid), 0);
    });
}

#[test]
fn a_kill_and_the_end_of_a_timeout_end_the_wait_and_leave_the_child() {
    in_process("processes::a_kill_and_the_end_of_a_timeout_end_the_wait_and_leave_the_child", || {
        let library = c::load(WAITS);
        let child = Ends::begin(&library);
        let (waits, pid) = (wait(&library, "is_given_up"), child.pid);
        let errno = greenlet::spawn(move || {
            let mut errno = 0;
            let _ = greenlet::timeout(Duration::from_millis(5), || {
                errno = waits(pid);
                greenlet::yield_now()
            });
            errno
        });
        assert_eq!(errno.join().unwrap(), libc::ECANCELED);
        child.end(5);
        assert_eq!(wait(&library, "by_waitpid")(pid), 5);
    });
}

#[test]
fn a_command_of_std_is_waited_for_by_its_greenlet() {
    in_time(|| {
        let cat = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut children: Vec<Child> = (0..3).map(|_| cat()).collect();
        let pipes: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
        let waits: Vec<_> = children
            .into_iter()
            .map(|mut child| greenlet::spawn(move || child.wait().unwrap().success()))
            .collect();
        greenlet::spawn(move || drop(pipes)).join().unwrap();
        assert!(waits.iter().all(|wait| wait.join().unwrap()));
        // any number at once
        let runs: Vec<_> = (0..3)
            .map(|number| {
                greenlet::spawn(move || {
                    Command::new("sh").args(["-c", &format!("exit {number}")]).status().unwrap().code()
                })
            })
            .collect();
        let codes: Vec<_> = runs.iter().map(|run| run.join().unwrap()).collect();
        assert_eq!(codes, [Some(0), Some(1), Some(2)]);
    });
}

#[test]
fn the_shell_runs_beside_the_other_greenlets() {
    in_process("processes::the_shell_runs_beside_the_other_greenlets", || {
        let library = c::load(WAITS);
        let scratch = greenserve_tests::Scratch::new();
        for name in ["runs", "reads"] {
            // SAFETY: as written in C.
            let runs: extern "C" fn(*const libc::c_char) -> c_int = unsafe { library.function(name) };
            let signal = scratch.path().join(name);
            let script = format!("while ! test -e {}; do sleep 0.01; done; exit 4", signal.display());
            let script = std::ffi::CString::new(script).unwrap();
            let shell = greenlet::spawn(move || runs(script.as_ptr()));
            greenlet::spawn(move || std::fs::write(signal, "").unwrap()).join().unwrap();
            assert_eq!(shell.join().unwrap(), 4, "{name}");
            assert_eq!(std::thread::spawn(move || runs(c"exit 4".as_ptr())).join().unwrap(), 4, "{name}");
        }
        // SAFETY: as written in C.
        let has_a_shell: extern "C" fn() -> c_int = unsafe { library.function("has_a_shell") };
        assert_eq!(greenlet::spawn(move || has_a_shell()).join().unwrap(), 1);
    });
}

#[test]
fn the_output_of_a_command_is_read_beside_the_other_greenlets() {
    in_time(|| {
        let scratch = greenserve_tests::Scratch::new();
        let signal = scratch.path().join("signal");
        let script = format!("while ! test -e {}; do sleep 0.01; done; echo said", signal.display());
        let output = greenlet::spawn(move || {
            Command::new("sh").args(["-c", &script]).stderr(Stdio::inherit()).output().unwrap()
        });
        greenlet::spawn(move || std::fs::write(signal, "").unwrap()).join().unwrap();
        let output = output.join().unwrap();
        assert!(output.status.success() && output.stdout == b"said\n", "{output:?}");
    });
}

#[test]
fn the_status_of_a_command_comes_beside_the_other_greenlets() {
    in_time(|| {
        let scratch = greenserve_tests::Scratch::new();
        let signal = scratch.path().join("signal");
        let script = format!("while ! test -e {}; do sleep 0.01; done; exit 3", signal.display());
        let status = greenlet::spawn(move || Command::new("sh").args(["-c", &script]).status().unwrap());
        greenlet::spawn(move || std::fs::write(signal, "").unwrap()).join().unwrap();
        assert_eq!(status.join().unwrap().code(), Some(3));
    });
}
