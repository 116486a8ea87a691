//! Processes: std's [`Command`] and [`Child`] whose waits park the greenlet, and [`fork`] of a running hub.
//!
//! Starting a program is std's work; what is new here is the waiting. The end of a child is seen by a descriptor of the
//! process (a pidfd, Linux 5.3), opened for as long as somebody waits; where there is none the child is asked again and
//! again, after pauses of up to 50 ms. SIGCHLD is not used: a handler of the program's own for it takes nothing away. Pipes
//! are [`FileObject`](crate::fs::FileObject)s.
//!
//! What may not enter here: supervising (restarts, pools of workers) and what the output means.
//!
//! # The end of a child nobody waits for
//!
//! Dropping a [`Child`] leaves its process running, as std does, unless [`Command::kill_on_drop`] was set. But it leaves no
//! zombie for long: the process is noted, and reaped when a later child is started or dropped after it has ended.
//! [`Command::status`], [`Command::output`] and [`Command::run`] hold the only handle, so they kill the child if they end
//! early: because of an error, a kill of the greenlet, or a timeout.
//!
//! # From gevent
//!
//! | gevent | here | difference |
//! |---|---|---|
//! | `subprocess.Popen` | [`Command::spawn`] | std's builder instead of keyword arguments; no shell: `Command::new("sh").arg("-c")` |
//! | `Popen.poll`, `Popen.wait(timeout)` | [`Child::try_wait`], [`Child::wait`], [`Child::wait_timeout`] | any number of greenlets may wait, each by a [`ChildHandle`] |
//! | `Popen.communicate(input, timeout)` | [`Child::communicate`] | bytes; a second call after a timeout loses nothing, as in Python |
//! | `Popen.send_signal`, `terminate`, `kill` | [`Child::signal`], [`Child::kill`] | no error once it has ended |
//! | `Popen.pid`, `returncode` | [`Child::id`], std's `ExitStatus` | |
//! | `Popen.stdin`, `stdout`, `stderr` | the fields of [`Child`] | unbuffered |
//! | `Popen.rawlink` | [`spawn`](crate::spawn) with [`ChildHandle::wait`] | |
//! | `PIPE`, `DEVNULL` | [`Stdio::piped`], [`Stdio::null`] | |
//! | `STDOUT` (for stderr) | the same end of [`std::io::pipe`] given twice, or `2>&1` | std has no word for it |
//! | `call`, `check_call` | [`Command::status`] | the status is to be looked at: no `CalledProcessError` |
//! | `check_output`, `run(capture_output, input, timeout)` | [`Command::output`], [`Command::run`] | killed when the time is over, as in Python |
//! | `TimeoutExpired` | `io::ErrorKind::TimedOut` | |
//! | `getoutput`, `getstatusoutput` | [`Command::output`] of `sh -c` | |
//! | `preexec_fn`, `start_new_session`, `user`, `group`, `process_group` | [`Command::as_std_mut`] with std's `CommandExt` | |
//! | `pass_fds` | `pre_exec`, clearing `FD_CLOEXEC` | descriptors made by std and here are closed on exec |
//! | `os.fork`, `os.fork_gevent` | [`fork`] | unsafe; returns a [`ChildHandle`] |
//! | `os.fork_and_watch`, `os.waitpid` | [`ChildHandle::wait`], [`ChildHandle::try_wait`] | for one's own children, one by one |
//! | `os.forkpty` | none | a crate for pseudo terminals with `Command`, its end as a `FileObject` |
//! | `gevent.reinit`, `Hub.reinit` | none | [`fork`] does it |
//! | `os.register_at_fork(after_in_child)` | [`after_fork`] | |

mod alone;
mod child;
mod command;
mod fork;
mod handle;
mod inherit;
mod talk;

pub use alone::{set_env, set_title};
pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::Command;
pub use fork::{Fork, after_fork, fork, fork_alone};
pub use handle::ChildHandle;
pub use inherit::inherited;
pub use std::process::{ExitStatus, Output, Stdio};
