//! The signals by name.

use std::fmt;

/// A signal of signal(7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident = $constant:ident, $what:literal;)*) => {
        impl Signal {
            $(#[doc = $what] pub const $name: Signal = Signal(libc::$constant);)*

            /// Its name (`SIGTERM`), if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$constant => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    HUP = SIGHUP, "The terminal is gone; to a server: read the settings again.";
    INT = SIGINT, "Interrupted from the keyboard (Ctrl-C).";
    QUIT = SIGQUIT, "Quit from the keyboard (Ctrl-\\).";
    ILL = SIGILL, "A fault: no such instruction.";
    TRAP = SIGTRAP, "A breakpoint.";
    ABRT = SIGABRT, "The process gives up.";
    BUS = SIGBUS, "A fault: no such memory behind a mapping.";
    FPE = SIGFPE, "A fault of arithmetic.";
    KILL = SIGKILL, "Ends a process; cannot be handled.";
    USR1 = SIGUSR1, "For the program's own use.";
    SEGV = SIGSEGV, "A fault: memory that is not there.";
    USR2 = SIGUSR2, "For the program's own use.";
    PIPE = SIGPIPE, "Nobody reads the pipe any more; ignored in Rust programs.";
    ALRM = SIGALRM, "A timer of alarm(2).";
    TERM = SIGTERM, "Asks a process to end.";
    CHLD = SIGCHLD, "A child has ended, stopped or gone on.";
    CONT = SIGCONT, "Goes on after a stop.";
    STOP = SIGSTOP, "Stops a process; cannot be handled.";
    TSTP = SIGTSTP, "Stopped from the keyboard (Ctrl-Z).";
    TTIN = SIGTTIN, "A background process reads from its terminal.";
    TTOU = SIGTTOU, "A background process writes to its terminal.";
    URG = SIGURG, "Urgent data on a socket.";
    XCPU = SIGXCPU, "The limit of processor time is reached.";
    XFSZ = SIGXFSZ, "The limit of a file's size is reached.";
    VTALRM = SIGVTALRM, "A timer of the processor time used.";
    PROF = SIGPROF, "A timer of profilers.";
    WINCH = SIGWINCH, "The terminal's size has changed.";
    IO = SIGIO, "A descriptor is ready.";
    SYS = SIGSYS, "A system call that is not allowed.";
}

impl Signal {
    /// By its number: 1 to 64, those for real time included.
    pub const fn from_raw(number: i32) -> Option<Signal> {
        if number >= 1 && number <= 64 { Some(Signal(number)) } else { None }
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Its place in a set.
    pub(super) const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Those in a set, by number.
    pub(super) fn in_set(set: u64) -> impl Iterator<Item = Signal> {
        (1..=64).map(Signal).filter(move |signal| set & signal.bit() != 0)
    }

    /// Whether a handler can do any good.
    pub(super) fn can_be_handled(self) -> bool {
        ![Signal::KILL, Signal::STOP, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE].contains(&self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_numbers_and_places_in_a_set() {
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(Signal::from_raw(libc::SIGHUP), Some(Signal::HUP));
        assert_eq!(Signal::from_raw(50).map(|signal| signal.to_string()).as_deref(), Some("signal 50"));
        assert_eq!((Signal::from_raw(0), Signal::from_raw(65)), (None, None));
        let last = Signal::from_raw(64).unwrap();
        let set = last.bit() | Signal::HUP.bit() | Signal::TERM.bit();
        assert_eq!(Signal::in_set(set).collect::<Vec<_>>(), [Signal::HUP, Signal::TERM, last]);
    }
}
