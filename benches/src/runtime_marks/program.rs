//! The programs that have the benchmarks: built, run and listened to.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// What a benchmark found: its figures by name.
pub type Figures = BTreeMap<String, f64>;

/// A program with benchmarks for one runtime.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its runtime's name, as long as it has not told it itself.
    pub name: String,
    /// Whether it is ours, and not a peer's.
    pub ours: bool,
    command: Result<Vec<PathBuf>, String>,
}

/// Why a program gave no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The program can't be had here.
    NotInstalled(String),
    /// It has no such benchmark: the runtime has nothing of the kind.
    NoSuchBenchmark,
    /// It failed, with the last thing that it said.
    Failed(String),
    /// It took longer than it may.
    TookTooLong(Duration),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotInstalled(why) => write!(f, "not installed: {why}"),
            Failure::NoSuchBenchmark => f.write_str("has no such thing"),
            Failure::Failed(what) => write!(f, "fails: {what}"),
            Failure::TookTooLong(limit) => write!(f, "not done after {} s", limit.as_secs()),
        }
    }
}

/// The exit status by which a program says that it has no such benchmark.
const NO_SUCH_BENCHMARK: i32 = 2;

#[derive(Deserialize)]
struct Line {
    runtime: String,
    figures: Figures,
}

impl Program {
    /// Our own: the running program, with arguments that make it run one benchmark.
    ///
    /// # Errors
    /// If the running program can't be found.
    pub fn ours(arguments: &[&str]) -> io::Result<Program> {
        let mut command = vec![std::env::current_exe()?];
        command.extend(arguments.iter().map(PathBuf::from));
        Ok(Program { name: "this one".into(), ours: true, command: Ok(command) })
    }

    /// Runs one benchmark and gives its figures. The program takes over the affinity of the calling thread. It is killed
    /// when it is not done after `limit`.
    ///
    /// # Errors
    /// Why there are no figures.
    pub fn run(&mut self, bench: &str, count: usize, limit: Duration) -> Result<Figures, Failure> {
        let command = self.command.as_ref().map_err(|why| Failure::NotInstalled(why.clone()))?;
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).arg(bench).arg(count.to_string()).env("RUST_BACKTRACE", "0");
        let output = match output_within(&mut process, limit) {
            Ok(Some(output)) => output,
            Ok(None) => return Err(Failure::TookTooLong(limit)),
            Err(error) => return Err(Failure::Failed(error.to_string())),
        };
        if output.status.code() == Some(NO_SUCH_BENCHMARK) {
            return Err(Failure::NoSuchBenchmark);
        }
        match serde_json::from_slice::<Line>(&output.stdout) {
            Ok(line) if output.status.success() => {
                self.name = line.runtime;
                Ok(line.figures)
            }
            _ => Err(Failure::Failed(complaint(&output))),
        }
    }
}

/// The programs of the peers. `directory` is where peers are installed: Python's are looked for there, the others are built
/// there.
pub fn peers(directory: &Path) -> Vec<Program> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/micro");
    let (installed, directory) = (directory, &directory.join("micro"));
    let mut programs = Vec::new();
    let built = build_rust(&source, directory);
    for name in ["tokio", "may", "thread", "corosensei"] {
        let program = directory.join("cargo/release").join(format!("{name}_marks"));
        programs.push(peer(name, built.clone().map(|()| vec![program])));
    }
    programs.push(peer("Go", build_go(&source, directory).map(|program| vec![program])));
    for runtime in ["gevent", "greenlet (Python)"] {
        let module = runtime.split(' ').next().unwrap_or(runtime);
        let script = source.join("python/gevent_marks.py");
        let command = python_with(module, installed).map(|python| vec![python, script, module.into()]);
        programs.push(peer(runtime, command));
    }
    programs
}

fn peer(name: &str, command: Result<Vec<PathBuf>, String>) -> Program {
    Program { name: name.into(), ours: false, command }
}

fn build_rust(source: &Path, directory: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
    command.arg(source.join("Cargo.toml")).arg("--target-dir").arg(directory.join("cargo"));
    succeed(&mut command)
}

fn build_go(source: &Path, directory: &Path) -> Result<PathBuf, String> {
    let program = directory.join("go_marks");
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut command = Command::new("go");
    command.env("GO111MODULE", "off").env("GOCACHE", directory.join("go")).args(["build", "-o"]);
    succeed(command.arg(&program).arg(source.join("go/main.go")))?;
    Ok(program)
}

/// A Python that has the module: the one that `benches/peers/setup` makes, else that of the system.
fn python_with(module: &str, directory: &Path) -> Result<PathBuf, String> {
    let pythons = [directory.join("venv/bin/python"), "python3".into()];
    let mut complaints = String::from("no Python");
    for python in pythons {
        match succeed(Command::new(&python).args(["-c", &format!("import {module}")])) {
            Ok(()) => return Ok(python),
            Err(why) => complaints = why,
        }
    }
    Err(complaints)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let name = command.get_program().display();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", complaint(&output))),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// The last line that a program said on its way out, or its status.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note: "));
    line.map_or_else(|| output.status.to_string(), |line| line.chars().take(100).collect())
}

/// Runs a program to its end; `None` if it had to be killed. What it prints has to fit into a pipe.
fn output_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut stderr)?;
    }
    Ok(Some(Output { status, stdout, stderr }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Program {
        peer("shell", Ok(["/bin/sh", "-c", script].map(PathBuf::from).into()))
    }

    #[test]
    fn a_program_tells_its_name_and_figures() {
        let mut program = shell(r#"echo '{"runtime":"sh 1","figures":{"ns":2.5}}'"#);
        let figures = program.run("any", 1, LONG).unwrap();
        assert_eq!((program.name.as_str(), figures["ns"]), ("sh 1", 2.5));
    }

    #[test]
    fn why_there_are_no_figures_is_told() {
        let run = |script| shell(script).run("any", 1, LONG);
        assert_eq!(run("exit 2"), Err(Failure::NoSuchBenchmark));
        assert_eq!(run("echo out of luck >&2; exit 1"), Err(Failure::Failed("out of luck".into())));
        assert!(matches!(run("echo nonsense"), Err(Failure::Failed(_))));
        let missing = peer("x", Err("no compiler".into())).run("any", 1, LONG);
        assert_eq!(missing, Err(Failure::NotInstalled("no compiler".into())));
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let limit = Duration::from_millis(50);
        assert_eq!(shell("exec sleep 600").run("any", 1, limit), Err(Failure::TookTooLong(limit)));
    }
}
