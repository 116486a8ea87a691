//! Puts the report together from what `marks` and `runtime_marks` have recorded: one page with the marks and all charts.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin marks
//! cargo run --release -p greenserve-benches --bin runtime_marks
//! cargo run --release -p greenserve-benches --bin report
//! ```

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use greenserve_benches::report::{Files, target_directory};

/// Make one page with the marks and all charts from what marks and runtime_marks have recorded. Measures nothing.
#[derive(Debug, Parser)]
#[command(name = "report")]
struct Options {
    /// What marks has recorded [default: marks.json in the target directory]
    #[arg(long, value_name = "FILE")]
    http: Option<PathBuf>,

    /// What runtime_marks has recorded [default: runtime_marks.json in the target directory]
    #[arg(long, value_name = "FILE")]
    runtime: Option<PathBuf>,

    /// The document that tells where the time goes [default: benches/RESULTS.md]
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// Where to write the page [default: report.html in the target directory]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    match report(Options::parse()) {
        Ok(page) => {
            println!("{}", page.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(options: Options) -> io::Result<PathBuf> {
    let standard = Files::standard(&target_directory()?);
    let files = Files {
        http: options.http.unwrap_or(standard.http),
        runtime: options.runtime.unwrap_or(standard.runtime),
        document: options.results.unwrap_or(standard.document),
        page: options.report.unwrap_or(standard.page),
    };
    files.assemble()?;
    Ok(files.page)
}
