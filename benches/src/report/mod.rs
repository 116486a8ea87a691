//! The report: one HTML page with the marks and all charts, put together from what the programs have recorded.
//!
//! `marks` records an [`Http`], `runtime_marks` a [`Runtime`], each as JSON in the target directory; [`Files::assemble`]
//! makes the page from those that are there, and both programs call it when they are done, as does `report` by itself.
//! [`splice`] and [`explain`] keep `benches/RESULTS.md`: what programs write, between what people write. Nothing in here
//! measures, and nothing in here knows how it was measured: that is recorded too.

mod charts;
mod document;
mod page;
mod recorded;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use document::{explain, explanations, read_document, splice};
pub use page::page;
pub use recorded::{
    AtConnections, Benchmark, Broken, Counted, Growth, Http, Kind, Mark, Measured, Quantile, Resident, Row,
    Runtime, Server, Spread, Stage, Version, distribution,
};

/// Stands beneath tables: where the charts are.
pub const WHERE: &str = "Charts and whole distributions: `target/report.html`, made by `cargo run --release -p greenserve-benches --bin report` \
                         from what was recorded in this run.";

/// Where the report's parts are, and where it goes.
#[derive(Clone, Debug)]
pub struct Files {
    /// What `marks` has recorded.
    pub http: PathBuf,
    /// What `runtime_marks` has recorded.
    pub runtime: PathBuf,
    /// The document that tells where the time goes.
    pub document: PathBuf,
    /// The page.
    pub page: PathBuf,
}

impl Files {
    /// As they are called where nothing else is asked for. `target` is the target directory.
    pub fn standard(target: &Path) -> Files {
        Files {
            http: target.join("marks.json"),
            runtime: target.join("runtime_marks.json"),
            document: Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"),
            page: target.join("report.html"),
        }
    }

    /// Makes the page from what is recorded. What isn't there is left out.
    ///
    /// # Errors
    ///
    /// If nothing is recorded at all, something recorded can't be read, or the page can't be written.
    pub fn assemble(&self) -> io::Result<()> {
        let http: Option<Http> = recorded(&self.http)?;
        let runtime: Option<Runtime> = recorded(&self.runtime)?;
        if http.is_none() && runtime.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "nothing is recorded: there is neither {} (made by marks) nor {} (made by runtime_marks)",
                    self.http.display(),
                    self.runtime.display()
                ),
            ));
        }
        let explanations = explanations(&read_document(&self.document)?);
        write(&self.page, &page(http.as_ref(), runtime.as_ref(), &explanations))
    }
}

/// The target directory that the running program is in.
///
/// # Errors
///
/// If it is in none.
pub fn target_directory() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).map(Path::to_owned);
    target.ok_or_else(|| io::Error::other("this program is not in a target directory"))
}

/// Writes a file, and the directory that it is in.
///
/// # Errors
///
/// If the kernel refuses; the error names the file.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| io::Error::new(error.kind(), format!("can't write {}: {error}", path.display())))
}

/// What is recorded in a file; `None` if there is none.
fn recorded<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let failed = |kind, why: &dyn std::fmt::Display| {
        io::Error::new(kind, format!("can't read {}: {why}", path.display()))
    };
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| failed(io::ErrorKind::InvalidData, &format!("{error}; measure again"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.kind(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_made_from_what_is_there() {
        let directory = std::env::temp_dir().join(format!("greenserve-report-{}", std::process::id()));
        let files = Files { document: directory.join("RESULTS.md"), ..Files::standard(&directory) };
        let nothing = files.assemble().unwrap_err();
        assert!(nothing.to_string().contains("nothing is recorded"), "{nothing}");

        write(&files.http, &page::tests::http().json()).unwrap();
        files.assemble().unwrap();
        let html = fs::read_to_string(&files.page).unwrap();
        assert!(html.contains("Connections") && !html.contains("Green threads</h2>"), "{html}");

        write(&files.runtime, "{\"date\":").unwrap();
        let garbled = files.assemble().unwrap_err();
        assert!(garbled.to_string().contains("runtime_marks.json"), "{garbled}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
