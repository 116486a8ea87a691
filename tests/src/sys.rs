//! What a test asks the kernel directly: signals, limits, and `/proc` on a process.

use std::fs;
use std::io;
use std::time::Duration;

/// Sends `signal` (`libc::SIGTERM`, ...) to the process `pid`.
///
/// # Panics
/// When the process does not exist (any more).
pub fn send_signal(pid: u32, signal: i32) {
    try_send_signal(pid, signal).unwrap_or_else(|error| panic!("signal {signal} to process {pid}: {error}"));
}

/// The same, or why not: it may have ended.
pub fn try_send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises this process's soft limit on open descriptors to the hard one (children inherit it) and returns it.
///
/// # Panics
/// When the kernel refuses.
pub fn raise_open_files_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit for the duration of the call.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    assert_eq!(got, 0, "getrlimit: {}", io::Error::last_os_error());
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live rlimit which the kernel only reads.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(set, 0, "setrlimit: {}", io::Error::last_os_error());
    limit.rlim_cur
}

/// Limits the descriptors that the process `pid` may have open from now on.
///
/// # Panics
/// When the kernel refuses.
pub fn limit_open_files(pid: u32, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: the new limit is a live rlimit which the kernel only reads; the old one is not asked for.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "prlimit: {}", io::Error::last_os_error());
}

/// What `/proc` says about a process.
#[derive(Debug, Clone, Copy)]
pub struct Proc(u32);

impl Proc {
    /// The process with this id.
    pub fn new(pid: u32) -> Proc {
        Proc(pid)
    }

    /// The process that runs the test.
    pub fn current() -> Proc {
        Proc(std::process::id())
    }

    /// The number of OS threads.
    ///
    /// # Panics
    /// Like every method here, when the process is gone.
    pub fn threads(&self) -> usize {
        self.count("task")
    }

    /// The number of open descriptors. For the calling process the listing's own descriptor is not counted.
    pub fn open_files(&self) -> usize {
        let own = usize::from(self.0 == std::process::id());
        self.count("fd") - own
    }

    /// The number of memory mappings.
    pub fn mappings(&self) -> usize {
        self.read("maps").lines().count()
    }

    /// Resident memory in bytes, exact: from `smaps_rollup`, since the counters in `statm` lag behind by batches.
    pub fn resident(&self) -> u64 {
        let rollup = self.read("smaps_rollup");
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("a line for Rss");
        let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
        kib.expect("Rss in kB") * 1024
    }

    /// Processor time (user and system) that the whole process has used; exact to a clock tick, 10 ms as a rule.
    pub fn cpu_time(&self) -> Duration {
        cpu_time_in(&self.read("stat"))
    }

    /// The same per thread, in no order.
    pub fn cpu_time_by_thread(&self) -> Vec<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the threads of a live process");
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok())
            .map(|stat| cpu_time_in(&stat))
            .collect()
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn count(&self, folder: &str) -> usize {
        let path = format!("/proc/{}/{folder}", self.0);
        fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
    }
}

/// Fields 14 and 15 of `stat`, counted behind the command's name, which may hold spaces and parentheses.
fn cpu_time_in(stat: &str) -> Duration {
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("clock ticks")).sum();
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_millis(ticks * 1000 / u64::try_from(per_second).expect("ticks per second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_tells_plausible_things_about_this_process() {
        let me = Proc::current();
        assert!(me.threads() >= 1);
        assert!(me.mappings() > 3);
        assert!(me.resident() > 100_000);
        let files = me.open_files();
        let extra = fs::File::open("/dev/null").unwrap();
        assert_eq!(me.open_files(), files + 1);
        drop(extra);
    }

    #[test]
    fn cpu_time_skips_a_command_name_with_spaces_and_parentheses() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 2 3 4 100 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_time_in(stat), Duration::from_millis(1500));
    }
}
