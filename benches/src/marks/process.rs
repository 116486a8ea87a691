//! A peer's processes: started, watched from outside, ended.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::compare::Cpus;

/// A server with all processes that it has started. Dropping it ends them.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The first one and all that came of it.
    family: Vec<u32>,
    /// The first one is a master that serves nobody and is not measured.
    has_master: bool,
}

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Running {
    /// Starts it on the server's processor and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it can't be started, ends at once or doesn't listen within ten seconds.
    pub fn start(mut command: Command, address: SocketAddr, cpus: Option<Cpus>) -> io::Result<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = command.get_program().display().to_string();
        // a child inherits the affinity of the thread that starts it: a thread of its own, so that ours stays
        let child = thread::scope(|scope| {
            let start = || {
                cpus.map_or(Ok(()), Cpus::pin_server)?;
                command.spawn()
            };
            scope.spawn(start).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(|error| io::Error::new(error.kind(), format!("can't start {program}: {error}")))?;
        let mut running = Running { family: vec![child.id()], child, address, has_master: false };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(io::Error::other(format!("{program} ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{program} doesn't listen on {address} after 10 s")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// The same for a master of ours, and waits until all of its workers serve. What is measured is what these have and use, and not
    /// what the master does.
    ///
    /// # Errors
    ///
    /// As for `start`; also if the workers are not ready within ten seconds.
    pub fn start_master(
        mut command: Command,
        address: SocketAddr,
        cpus: Option<Cpus>,
    ) -> io::Result<Running> {
        // The master tells it as it tells systemd.
        let name = format!("greenserve-marks-{}-{}", std::process::id(), address.port());
        let notify = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        notify.set_read_timeout(Some(PATIENCE))?;
        command.env("NOTIFY_SOCKET", format!("@{name}"));
        let mut running = Running::start(command, address, cpus)?;
        running.has_master = true;
        let mut news = [0; 512];
        let length = notify.recv(&mut news).map_err(|error| {
            io::Error::new(error.kind(), format!("the workers are not ready after 10 s: {error}"))
        })?;
        if !news[..length].starts_with(b"READY=1") {
            return Err(io::Error::other("the master says something else than that its workers are ready"));
        }
        Ok(running)
    }

    /// Those that are measured.
    fn measured(&self) -> &[u32] {
        &self.family[usize::from(self.has_master)..]
    }

    /// Looks which processes there are by now. A server has all of them once it has answered.
    ///
    /// # Errors
    ///
    /// If `/proc` can't be read.
    pub fn find_family(&mut self) -> io::Result<()> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if let Some(parent) =
                fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent)
            {
                parents.push((pid, parent));
            }
        }
        self.family = descendants(self.child.id(), &parents);
        Ok(())
    }

    /// Processor time of all threads of all processes that are measured so far: what the scheduler counts, in nanoseconds.
    ///
    /// # Errors
    ///
    /// If one has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut total = 0;
        for pid in self.measured() {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // a thread may end while the list is read
                let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                total += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(Duration::from_nanos(total))
    }

    /// Resident bytes of all processes that are measured, counted page by page (`smaps_rollup`): the figures in `status` are off by up to
    /// half a megabyte.
    ///
    /// # Errors
    ///
    /// If one has ended.
    pub fn resident(&self) -> io::Result<u64> {
        let mut total = 0;
        for pid in self.measured() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            total += resident(&text).ok_or(io::ErrorKind::InvalidData)?;
        }
        Ok(total)
    }

    /// Ends the youngest process, which is the server where the first one is a tool that watches it, and waits for the
    /// first one to end by itself, which a tool does once it has written what it has seen.
    ///
    /// # Errors
    ///
    /// If it is still there after half a minute.
    pub fn finish(mut self) -> io::Result<()> {
        self.find_family()?;
        let youngest = self.family.last().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
        if let Some(youngest) = youngest {
            rustix::process::kill_process(youngest, Signal::TERM)?;
        }
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it doesn't end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Nanoseconds of processor time that the calling thread has used.
///
/// # Errors
///
/// If `/proc` can't be read.
pub fn own_cpu() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split(' ').next().and_then(|n| n.parse().ok());
    Ok(Duration::from_nanos(first.ok_or(io::ErrorKind::InvalidData)?))
}

fn parent(stat: &str) -> Option<u32> {
    // the command in parentheses may contain anything; then come the state and the parent
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// `pid` and all that came of it, the oldest first.
fn descendants(pid: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![pid];
    let mut index = 0;
    while index < family.len() {
        let parent = family[index];
        family.extend(parents.iter().filter(|of| of.1 == parent).map(|of| of.0));
        index += 1;
    }
    family
}

fn resident(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl Drop for Running {
    /// SIGTERM to the first process, and SIGKILL to all if that doesn't end it soon.
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + Duration::from_millis(500);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for pid in self.family.iter().skip(1) {
                    // only who still is a child of ours: numbers are used again
                    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    let ours = parent(&stat).is_some_and(|parent| self.family.contains(&parent));
                    if let (true, Some(pid)) = (ours, i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
                        let _ = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_parents() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(descendants(1, &[(2, 1), (3, 9), (4, 2), (5, 1)]), [1, 2, 5, 4]);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident("0-1 ---p [rollup]\nRss:                 120 kB\nPss: 7 kB\n"), Some(122_880));
        assert_eq!(resident("nothing"), None);
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = own_cpu().unwrap();
        let mut n = 0_u64;
        while own_cpu().unwrap() == before {
            n += 1;
            assert!(n < 10_000_000);
        }
    }
}
