//! Measures what blocking code costs in greenlets when libc's calls are interposed: an echo over TCP by `std::net`, beside the
//! same by `greenlet::net`; and locks, channels and sleeps. Counts instructions (by valgrind) and system calls (by strace), and takes processor time.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin interposed
//! ```

mod waits;

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

use greenlet_interpose as _;

/// Length of a message, in bytes.
const MESSAGE: usize = 64;
/// Length of the buffers that messages are read into.
const BUFFER: usize = 1024;
/// How many times the time is taken; the ways take turns.
const RUNS: usize = 9;

/// What can be measured, beside the [waits](waits::WAYS).
const WAYS: &[&str] = &["greenlet::net", "std::net", "outside"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [way, times, connections] => match (times.parse(), connections.parse()) {
            (Ok(times), Ok(connections)) => run(way, times, connections).map(|nanos| println!("{nanos}")),
            _ => Err(io::Error::other("WAY TIMES CONNECTIONS")),
        },
        _ => all(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interposed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again for each number that there is to know.
fn all() -> io::Result<()> {
    for connections in [1, 100] {
        measure(&WAYS.iter().map(|way| (*way, 20_000, connections)).collect::<Vec<_>>())?;
    }
    measure(&waits::WAYS.iter().map(|(way, times, many, _)| (*way, *times, *many)).collect::<Vec<_>>())
}

/// Measures ways, each with its times and its number of connections or greenlets.
fn measure(ways: &[(&str, u32, u32)]) -> io::Result<()> {
    let mut nanos = vec![Vec::new(); ways.len()];
    for _ in 0..RUNS {
        for ((way, times, many), nanos) in ways.iter().zip(&mut nanos) {
            nanos.push(own(&[], way, *times, *many)?.trim().parse::<f64>().map_err(io::Error::other)?);
        }
    }
    for ((way, _, many), nanos) in ways.iter().zip(&mut nanos) {
        nanos.sort_by(f64::total_cmp);
        let per_time = |tool: &[&str], line: &str| -> io::Result<f64> {
            let [less, more] = [1_000, 3_000];
            let count = |times| -> io::Result<f64> { number_in(&own(tool, way, times, *many)?, line) };
            Ok((count(more)? - count(less)?) / f64::from(more - less))
        };
        let callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
        println!(
            "{way}, {many} at once: {:.0} ns, {:.0} instructions, {:.2} system calls a time",
            nanos[nanos.len() / 2],
            per_time(&callgrind, "Collected")?,
            per_time(&["strace", "-f", "-c", "-U", "calls,name"], "total")?,
        );
    }
    Ok(())
}

/// This program, under a tool; gives what it and the tool say.
fn own(tool: &[&str], way: &str, times: u32, connections: u32) -> io::Result<String> {
    let executable = std::env::current_exe()?;
    let mut command = match tool {
        [] => Command::new(executable),
        [tool, arguments @ ..] => {
            let mut command = Command::new(tool);
            command.args(arguments).arg(executable);
            command
        }
    };
    let output = command.args([way, &times.to_string(), &connections.to_string()]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
}

/// The number in a line that has this word.
fn number_in(said: &str, word: &str) -> io::Result<f64> {
    let line = said.lines().rfind(|line| line.contains(word));
    let number = line.and_then(|line| {
        let line = line.rsplit("==").next().unwrap_or_default();
        line.split_whitespace().find_map(|part| part.parse::<f64>().ok())
    });
    number.ok_or_else(|| io::Error::other(format!("the tool doesn't tell `{word}`: {said}")))
}

/// Nanoseconds of processor time for each time.
fn run(way: &str, times: u32, connections: u32) -> io::Result<f64> {
    let each = times / connections;
    let begin = cpu();
    match way {
        "outside" => (0..times).for_each(|_| {
            // SAFETY: there is no such descriptor, which it says.
            let got = unsafe { recv(-1, std::ptr::null_mut(), 0, 0) };
            assert_eq!(got, -1);
        }),
        "std::net" => inside(move || echo_std(each, connections))?,
        "greenlet::net" => inside(move || echo_greenlet(each, connections))?,
        _ => match waits::WAYS.iter().find(|(name, ..)| *name == way) {
            Some((.., job)) => inside(move || job(each, connections))?,
            None => return Err(io::Error::other(format!("there is no way `{way}`"))),
        },
    }
    Ok((cpu() - begin) * 1e9 / f64::from(times))
}

unsafe extern "C" {
    fn recv(fd: i32, buffer: *mut u8, length: usize, flags: i32) -> isize;
}

fn inside(job: impl FnOnce() -> io::Result<()> + 'static) -> io::Result<()> {
    greenlet::spawn(job).join().map_err(|_| io::Error::other("it has panicked"))?
}

/// The two sockets differ in their type alone.
macro_rules! echo {
    ($name:ident, $net:path) => {
        fn $name(each: u32, connections: u32) -> io::Result<()> {
            use $net as net;
            let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            let mut clients = Vec::new();
            for _ in 0..connections {
                let mut near = net::TcpStream::connect(address)?;
                let (mut far, _) = listener.accept()?;
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                greenlet::spawn(move || {
                    let mut buffer = [0; BUFFER];
                    while let Ok(length @ 1..) = far.read(&mut buffer) {
                        if far.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                });
                clients.push(greenlet::spawn(move || {
                    let mut buffer = [7; BUFFER];
                    (0..each).try_for_each(|_| {
                        near.write_all(&buffer[..MESSAGE])?;
                        let mut missing = MESSAGE;
                        while missing > 0 {
                            missing -= near.read(&mut buffer)?;
                        }
                        Ok::<_, io::Error>(())
                    })
                }));
            }
            for client in clients {
                client.join().map_err(|_| io::Error::other("it has panicked"))??;
            }
            Ok(())
        }
    };
}

echo!(echo_std, std::net);
echo!(echo_greenlet, greenlet::net);

/// Processor time that this process has used, in seconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
