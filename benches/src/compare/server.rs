//! A server process: started, watched from outside, stopped.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::machine::{Cpus, field, kib};
use super::measurement::Kind;

/// Builds the `greenserve` binary in the profile of the running program and gives its path.
///
/// # Errors
///
/// If cargo can't be run or fails; its messages go to stderr.
pub fn build_server() -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.parent().ok_or(io::ErrorKind::NotFound)?;
    let target = directory.parent().ok_or(io::ErrorKind::NotFound)?;
    let profile = match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(&cargo)
        .args(["build", "--quiet", "-p", "greenserve", "--bin", "greenserve", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("can't run {}: {error}", cargo.display())))?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "building greenserve failed ({status}); or name a binary with --server"
        )));
    }
    Ok(directory.join("greenserve"))
}

/// A running `greenserve` process that serves the demo application on loopback. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Starts `binary` with room for `connections` and waits until it listens. With `cpus` it runs on the server's.
    ///
    /// # Errors
    ///
    /// If it can't be started, ends at once or doesn't listen within ten seconds; with what it said.
    pub fn start(binary: &Path, kind: Kind, connections: usize, cpus: Option<Cpus>) -> io::Result<Server> {
        // Free a moment ago. Should somebody take it meanwhile the server says so and the start is an error.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(binary);
        command
            .args(["demo", "--bind", &address.to_string(), "--worker-class", kind.flag()])
            .args(["--worker-connections", &(connections + 16).to_string()])
            .args(["--keep-alive", "75", "--log-level", "warning", "--workers", "0"])
            .env_remove("GREENSERVE_CMD_ARGS")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // a child inherits the affinity of the thread that starts it: a thread of its own, so that ours stays
        let child = thread::scope(|scope| {
            let start = || {
                cpus.map_or(Ok(()), Cpus::pin_server)?;
                command.spawn()
            };
            scope.spawn(start).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(|error| {
            io::Error::new(error.kind(), format!("can't start {}: {error}", binary.display()))
        })?;
        let mut server = Server { child, address };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the process has and has used so far.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status"))?;
        let stat = fs::read_to_string(proc.join("stat"))?;
        Usage::parse(&status, &stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("the server (pid {}) has ended", self.child.id()))
        })
    }

    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&self.address, PATIENCE).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "the server ended at once ({status}); it says why above"
                )));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "the server doesn't listen on {} after 10 s",
                    self.address
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    /// SIGTERM, and SIGKILL if that doesn't end it in time.
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a process has, from `/proc/PID/status` and `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// OS threads.
    pub threads: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Processor time so far, user and system, of all threads. Comes in steps of (mostly) 10 ms.
    pub cpu: Duration,
}

impl Usage {
    fn parse(status: &str, stat: &str) -> Option<Usage> {
        // the command in parentheses may contain anything, also spaces and parentheses
        let mut after_command = stat.rsplit_once(") ")?.1.split(' ');
        // fields are counted from 1 in proc_pid_stat(5), the first one here is 3: utime is 14, stime 15
        let user: u64 = after_command.nth(14 - 3)?.parse().ok()?;
        let system: u64 = after_command.next()?.parse().ok()?;
        let ticks = rustix::param::clock_ticks_per_second();
        Some(Usage {
            threads: field(status, "Threads")?.parse().ok()?,
            resident: kib(&field(status, "VmRSS")?)?,
            cpu: Duration::from_secs_f64((user + system) as f64 / ticks as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_process_with_an_awkward_name() {
        let status = "Name:\ta) b\nThreads:\t12\nVmRSS:\t     100 kB\n";
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 12 0 12345";
        let ticks = rustix::param::clock_ticks_per_second();
        let usage = Usage::parse(status, stat).unwrap();
        assert_eq!((usage.threads, usage.resident), (12, 102_400));
        assert_eq!(usage.cpu, Duration::from_secs_f64(200.0 / ticks as f64));
        // a zombie has no VmRSS
        assert_eq!(Usage::parse("Threads:\t1\n", stat), None);
    }

    #[test]
    fn usage_of_this_process() {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let usage = Usage::parse(&read("status"), &read("stat")).unwrap();
        assert!(usage.threads >= 1 && usage.resident > 100_000);
    }
}
