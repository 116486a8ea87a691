//! Where the comparison was made, and what its processes are given.

use std::fs;
use std::io;
use std::process::Command;
use std::time::SystemTime;

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

/// What a reader needs to know to compare with another machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Kernel name and release.
    pub kernel: String,
    /// Version of the compiler found on the path, and of these crates.
    pub versions: String,
    /// When, as an HTTP date.
    pub date: String,
}

impl Machine {
    /// This machine, now. What can't be found out is left empty.
    pub fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let uname = rustix::system::uname();
        let rustc = Command::new("rustc").arg("--version").output().ok();
        let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
        Machine {
            processor: field(&cpuinfo, "model name").or(field(&cpuinfo, "CPU part")).unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory: field(&meminfo, "MemTotal").and_then(|text| kib(&text)).unwrap_or_default(),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            versions: format!("greenserve {}, {}", env!("CARGO_PKG_VERSION"), rustc.trim()),
            date: httpdate::fmt_http_date(SystemTime::now()),
        }
    }
}

/// The value of `name: value` or `name : value` in one of proc(5)'s text files.
pub(super) fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim_end() == name).then(|| value.trim().to_owned())
    })
}

/// `123 kB`, as proc(5) writes it, in bytes.
pub(super) fn kib(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Raises this process's limit of open files to the most it may have, and gives that. Children inherit it.
///
/// # Errors
///
/// If the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })?;
    Ok(most)
}

/// Which processors the server and the load generator get: one each, so that neither takes the other's time.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The server's.
    server: CpuSet,
    /// The load generator's.
    load: CpuSet,
    /// All but the load generator's.
    others: CpuSet,
}

impl Cpus {
    /// The first and the last processor that this process may use; `None` if there is only one.
    ///
    /// # Errors
    ///
    /// If the kernel doesn't say.
    pub fn choose() -> io::Result<Option<Cpus>> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let server = cpus.next();
        Ok(server.zip(cpus.next_back()).map(|(server, load)| {
            let mut others = allowed;
            others.unset(load);
            Cpus { server: only(server), load: only(load), others }
        }))
    }

    /// The same with more than one processor for the server: all but the load generator's, and that one as well where the server
    /// would have only one.
    pub fn for_several(mut self) -> Cpus {
        self.server = self.others;
        if self.server.count() == 1 {
            let load = (0..CpuSet::MAX_CPU).filter(|cpu| self.load.is_set(*cpu));
            load.for_each(|cpu| self.server.set(cpu));
        }
        self
    }

    /// Binds the calling thread, and those that it will start, to the load generator's processor.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn pin_load(self) -> io::Result<()> {
        Ok(rustix::thread::sched_setaffinity(None, &self.load)?)
    }

    /// Binds the calling thread, and processes that it will start, to the server's processors.
    pub(crate) fn pin_server(self) -> io::Result<()> {
        Ok(rustix::thread::sched_setaffinity(None, &self.server)?)
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        let text = "Name:\tgreenserve\nmodel name\t: A: B\nVmRSS:\t    1234 kB\n";
        assert_eq!(field(text, "Name").as_deref(), Some("greenserve"));
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(text, "VmRSS").and_then(|v| kib(&v)), Some(1234 * 1024));
        assert_eq!(field(text, "Vm"), None);
        assert_eq!(kib("12 MB"), None);
    }
}
