//! The file that holds the master's process id.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use rustix::process::{Pid, test_kill_process};

/// A pid file, which is removed when it is dropped by the process that wrote it, if it is still its own.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    pid: u32,
}

impl PidFile {
    /// Writes this process's id to `path`.
    ///
    /// # Errors
    /// `AlreadyExists` if a living process is named there; those of the file system.
    pub(super) fn create(path: &Path) -> io::Result<PidFile> {
        let pid = process::id();
        if let Some(other) = read(path).filter(|other| *other != pid && lives(*other)) {
            let what = format!("{}: process {other} is named there and lives; stop it first", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // Nobody may see half of it, nor an empty one.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{pid}.tmp"));
        let new = PathBuf::from(name);
        let written = fs::File::create(&new)
            .and_then(|mut file| writeln!(file, "{pid}"))
            .and_then(|()| fs::rename(&new, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            named(error)
        })?;
        Ok(PidFile { path: path.to_path_buf(), pid })
    }

    /// The same at another path.
    pub(super) fn rename(&mut self, path: &Path) -> io::Result<()> {
        if path != self.path {
            let new = PidFile::create(path)?;
            drop(std::mem::replace(self, new));
        }
        Ok(())
    }

    /// While two masters live, the newer one's name.
    pub(super) fn second(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".2");
        name.into()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if process::id() == self.pid && read(&self.path) == Some(self.pid) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn lives(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // One that belongs to somebody else lives, too.
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_its_writers_and_goes_with_it() {
        let dir = std::env::temp_dir().join(format!("greenserve-pid-{}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("pid");
        fs::write(&path, "4194305\n").unwrap(); // above the kernel's largest
        let mut file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        file.rename(&PidFile::second(&path)).unwrap();
        assert!(!path.exists());
        let second = dir.join("pid.2");
        fs::write(&second, "1\n").unwrap();
        drop(file);
        assert!(second.exists(), "it is another's by now");
        let error = PidFile::create(&second).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("process 1"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
