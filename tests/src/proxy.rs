//! A proxy that stands before the server: nginx, HAProxy.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{PATIENCE, Scratch, send_signal};

/// A running proxy, stopped by its id when dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    addr: SocketAddr,
    log: PathBuf,
}

impl Proxy {
    /// Whether there is such a program. If not, says NOT CHECKED.
    pub fn exists(program: &str) -> bool {
        let mut command = Command::new(program);
        command.arg("-v").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let there = command.status().is_ok();
        if !there {
            println!("NOT CHECKED: there is no {program}");
        }
        there
    }

    /// Starts what `command` gives for an address, in the foreground, and waits until it listens there. What it says goes to
    /// `log`, as should its error log.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(log: &Path, command: impl Fn(SocketAddr) -> Command) -> Proxy {
        for _ in 0..5 {
            // it may be taken by somebody else before the proxy has it
            let addr = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
            let said = || File::options().create(true).append(true).open(log).expect("a log file");
            let mut command = command(addr);
            let child = command.stdin(Stdio::null()).stdout(said()).stderr(said()).spawn();
            let mut proxy = Proxy { child: child.expect("the proxy starts"), addr, log: log.to_path_buf() };
            let start = Instant::now();
            while proxy.is_running() {
                if TcpStream::connect(addr).is_ok() && proxy.is_running() {
                    return proxy;
                }
                assert!(start.elapsed() < PATIENCE, "the proxy does not listen:\n{}", proxy.log());
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("the proxy does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// nginx with this configuration for an address; all its files are in `scratch`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn nginx(scratch: &Scratch, configuration: impl Fn(SocketAddr) -> String) -> Proxy {
        let log = scratch.join("error.log");
        Proxy::start(&log, |addr| {
            let conf = scratch.write("nginx.conf", configuration(addr));
            let mut command = Command::new("nginx");
            command.arg("-e").arg(&log).arg("-p").arg(scratch.path()).arg("-c").arg(conf);
            command
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the proxy's log\n{}---", self.log());
        }
        if self.is_running() {
            send_signal(self.child.id(), libc::SIGTERM);
        }
        let start = Instant::now();
        while self.is_running() && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
