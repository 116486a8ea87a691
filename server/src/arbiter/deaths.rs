//! Processes that have ended, and are waited for so that none stays as a zombie.

use std::fmt;
use std::time::Instant;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::fleet::{Leave, Loss};
use super::master::{BOOT_ERROR, Halt, Master};
use super::signals::name;

impl Master {
    /// Everybody who has ended: workers, the successor, and if this is process 1 others, too.
    pub(super) fn reap(&mut self, now: Instant) -> Result<(), Halt> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status, now)?,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::error!("can't wait for workers: {error}");
                    return Ok(());
                }
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus, now: Instant) -> Result<(), Halt> {
        let number = pid.as_raw_pid().unsigned_abs();
        if self.successor.as_ref().is_some_and(|successor| successor.id() == number) {
            log::warn!("The new master, process {number}, has ended ({})", Ended(status));
            self.successor = None;
            return Ok(());
        }
        // What it held of the things that workers share is free again.
        greenlet::shm::recover(number);
        let Some(place) = self.children.iter().position(|child| child.pid == pid) else { return Ok(()) };
        // What it said at last.
        self.hear(now);
        let child = self.children.swap_remove(place);
        self.loads.forget(child.place);
        let loss = self.fleet.ended(child.info.age, now);
        self.sockets.trim(self.fleet.seats_in_use());
        self.board.end(child.place, loss != Loss::Expected);
        let how = Ended(status);
        match loss {
            Loss::Expected => log::info!("Worker exited (pid:{number}, {how})"),
            Loss::Replaced => log::error!("Worker (pid:{number}) ended unexpectedly: {how}"),
            Loss::Retried(pause) => log::error!(
                "Worker (pid:{number}) did not live: {how}; the next attempt is made in {:.1} s",
                pause.as_secs_f32()
            ),
            Loss::Hopeless => log::error!("Worker (pid:{number}) failed to boot: {how}"),
        }
        self.hooks.child_exit(&child.info);
        if loss == Loss::Hopeless {
            self.stop(Leave::Quick);
            self.give_up();
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0);
            return Err(Halt::Boot(code.unwrap_or(BOOT_ERROR)));
        }
        Ok(())
    }

    /// Ends what there is of workers, without hope for more.
    fn give_up(&mut self) {
        for child in &self.children {
            let _ = kill_process(child.pid, Signal::KILL);
        }
        for child in self.children.drain(..) {
            let _ = rustix::process::waitpid(Some(child.pid), WaitOptions::empty());
        }
    }
}

/// How a process has ended, in words.
struct Ended(WaitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(9)) => f.write_str("SIGKILL; out of memory?"),
            (_, Some(signal)) => write!(f, "SIG{}", name(signal).to_uppercase()),
            _ => f.write_str("no reason known"),
        }
    }
}
