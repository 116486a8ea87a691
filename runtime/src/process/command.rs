//! Starting programs.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command as StdCommand, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::child::Child;

/// A program to be started, with the methods of [`std::process::Command`] and waits that park the greenlet
/// (`gevent.subprocess.Popen`'s arguments).
///
/// What std's has on one system only (user, group, process group, `pre_exec`) is to be had by
/// [`as_std_mut`](Command::as_std_mut); the standard streams are to be set here.
///
/// ```
/// use greenlet::process::Command;
///
/// let date = greenlet::spawn(|| Command::new("date").output());
/// let echo = Command::new("echo").arg("hello").output()?; // both at once
/// assert_eq!(echo.stdout, b"hello\n");
/// assert!(date.join().unwrap()?.status.success());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Command {
    inner: StdCommand,
    /// Whether the user has said what stdin, stdout and stderr are to be.
    given: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// A command for this program, looked for in `PATH` if it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command { inner: StdCommand::new(program), given: [false; 3], kill_on_drop: false }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> &mut Command {
        self.inner.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env(key, value);
        self
    }

    /// Sets variables of the environment.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Command {
        self.inner.envs(vars);
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env_remove(key);
        self
    }

    /// Begins with an empty environment.
    pub fn env_clear(&mut self) -> &mut Command {
        self.inner.env_clear();
        self
    }

    /// The directory in which the program starts.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.inner.current_dir(dir);
        self
    }

    /// The program's standard input. If not set, this process's own for `spawn` and `status`, none for `output`.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Command {
        self.given[0] = true;
        self.inner.stdin(stdin);
        self
    }

    /// The program's standard output. If not set, this process's own for `spawn` and `status`, a pipe for `output`.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Command {
        self.given[1] = true;
        self.inner.stdout(stdout);
        self
    }

    /// The program's standard error. If not set, this process's own for `spawn` and `status`, a pipe for `output`.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Command {
        self.given[2] = true;
        self.inner.stderr(stderr);
        self
    }

    /// Whether the process is killed (SIGKILL) when the last handle to it is dropped before it has ended. Default false.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the program. Does not park: the hub stands still until it runs, a millisecond or so.
    ///
    /// # Errors
    /// As [`std::process::Command::spawn`]: `NotFound` for a program that is not there. The kernel's, where the hub cannot
    /// take the pipes; the child is killed then.
    pub fn spawn(&mut self) -> io::Result<Child> {
        Child::adopt(self.inner.spawn()?, self.kill_on_drop)
    }

    /// Runs the program to its end. Parks the greenlet; if that ends early (the greenlet is killed, a timeout), the program
    /// is killed.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        Child::adopt(self.inner.spawn()?, true)?.wait()
    }

    /// Runs the program to its end and collects what it writes, all of it, in memory. Parks the greenlet; if that ends early
    /// (the greenlet is killed, a timeout), the program is killed.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait_with_output`].
    pub fn output(&mut self) -> io::Result<Output> {
        self.spawn_with(Stdio::null())?.wait_with_output()
    }

    /// As [`output`](Self::output), with `input` on the program's standard input, and within `timeout` (`None`: without
    /// one): `subprocess.run(input=…, capture_output=True, timeout=…)`. When the time is over the program is killed; what
    /// it has started itself is not.
    ///
    /// ```
    /// use greenlet::process::Command;
    /// use std::time::Duration;
    ///
    /// let sorted = Command::new("sort").run("b\na\n", Duration::from_secs(60))?;
    /// assert_eq!(sorted.stdout, b"a\nb\n");
    /// let late = Command::new("sleep").arg("100").run("", Duration::from_millis(10));
    /// assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `TimedOut`; as [`output`](Self::output) and [`Child::communicate`].
    pub fn run(
        &mut self,
        input: impl AsRef<[u8]>,
        timeout: impl Into<Option<Duration>>,
    ) -> io::Result<Output> {
        self.spawn_with(Stdio::piped())?.communicate(input, timeout)
    }

    /// The program.
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }

    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }

    /// What the environment differs in from this process's.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }

    /// The directory in which the program starts, if it is not this process's.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }

    /// std's command inside.
    pub fn as_std(&self) -> &StdCommand {
        &self.inner
    }

    /// std's command inside, for what is not repeated here. Standard streams set by it are not seen by
    /// [`output`](Self::output) and [`run`](Self::run), which replace them.
    pub fn as_std_mut(&mut self) -> &mut StdCommand {
        &mut self.inner
    }

    /// Starts it for the sake of its output; the streams that were not set are this process's again afterwards.
    fn spawn_with(&mut self, stdin: Stdio) -> io::Result<Child> {
        self.set_streams_not_given(stdin, Stdio::piped(), Stdio::piped());
        let child = self.inner.spawn();
        self.set_streams_not_given(Stdio::inherit(), Stdio::inherit(), Stdio::inherit());
        Child::adopt(child?, true)
    }

    fn set_streams_not_given(&mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) {
        if !self.given[0] {
            self.inner.stdin(stdin);
        }
        if !self.given[1] {
            self.inner.stdout(stdout);
        }
        if !self.given[2] {
            self.inner.stderr(stderr);
        }
    }
}

impl From<StdCommand> for Command {
    /// Its standard streams are to be set again if they are to be anything but this process's.
    fn from(mut inner: StdCommand) -> Command {
        inner.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        Command { inner, given: [false; 3], kill_on_drop: false }
    }
}
