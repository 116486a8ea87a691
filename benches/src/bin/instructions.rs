//! Counts what a keep-alive request takes in instructions, allocations and system calls, and checks it against what is
//! recorded in `benches/instructions.toml`: a regression is seen without a clock. Needs valgrind and strace.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin instructions              # count, and check greenserve's
//! cargo run --release -p greenserve-benches --bin instructions -- --record  # count, and record
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use greenserve_benches::compare::Cpus;
use greenserve_benches::marks::{Counts, PEERS, Record, Site};

/// Count instructions, allocations and system calls per keep-alive request and check them against the record.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Options {
    /// Write what was counted into the record instead of checking it
    #[arg(long)]
    record: bool,

    /// Servers to count [default: greenserve; with --record also hyper]
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',')]
    servers: Vec<String>,

    /// The record
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"))]
    file: PathBuf,

    /// Where the peers are installed [default: peers/ in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    installed: Option<PathBuf>,
}

fn main() -> ExitCode {
    match count(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives whether nothing is more than recorded.
fn count(options: Options) -> io::Result<bool> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(2).unwrap_or(Path::new("target"));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let installed = options.installed.clone().unwrap_or_else(|| target.join("peers"));
    let mut servers = options.servers;
    if servers.is_empty() {
        servers.push("greenserve".to_owned());
        if options.record {
            servers.push("hyper".to_owned());
        }
    }
    let status = Command::new(sources.join("setup"))
        .arg(&installed)
        .args(&servers)
        .stdout(io::stderr())
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("benches/peers/setup failed ({status})")));
    }
    let site = Site { installed: std::fs::canonicalize(&installed)?, sources, workers: 0 };
    let cpus = Cpus::choose()?;

    let mut counted = Vec::new();
    for name in &servers {
        let peer = PEERS.iter().find(|peer| peer.name == name.as_str()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("there is no server `{name}`"))
        })?;
        eprintln!("counting {name} …");
        let counts = Counts::of(peer, &site, cpus)?;
        println!(
            "{name}: {:.0} instructions, {:.2} allocations, {:.2} system calls ({}) per keep-alive request",
            counts.instructions,
            counts.allocations,
            counts.all_system_calls(),
            counts.system_calls_in_words()
        );
        counted.push((name.clone(), counts));
    }

    if options.record {
        let record = Record::new(&counted, rustc());
        std::fs::write(&options.file, record.to_string())?;
        println!("recorded in {}", options.file.display());
        return Ok(true);
    }
    let text = std::fs::read_to_string(&options.file).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't read {}: {error}; --record writes it", options.file.display()),
        )
    })?;
    let record: Record = text.parse().map_err(|line: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: not understood: {line}", options.file.display()),
        )
    })?;
    if record.rustc != rustc() {
        println!(
            "recorded with {}, counted with {}: a difference may be the compiler's",
            record.rustc,
            rustc()
        );
    }
    let mut good = true;
    for (name, counts) in &counted {
        for verdict in record.check(name, counts) {
            println!("{name}: {verdict}");
            good &= !verdict.worse;
        }
    }
    Ok(good)
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().ok();
    output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default().trim().to_owned()
}
