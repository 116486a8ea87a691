//! From a request's path to an open file, and no way out of the root.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What a path names, decoded: segments that are plain names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    segments: Vec<Vec<u8>>,
    /// Ends in a slash: a folder is meant.
    folder: bool,
}

/// What is there.
pub(super) enum Found {
    /// A file, open for reading.
    File {
        file: File,
        /// Its path below the root.
        name: PathBuf,
        length: u64,
        modified: Option<SystemTime>,
    },
    /// A folder that was asked for without a slash at the end.
    Folder,
    /// Nothing that can be served.
    Nothing,
}

impl Found {
    fn file(file: File, name: PathBuf, metadata: &Metadata) -> Self {
        Found::File { file, name, length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// Unreserved characters (RFC 3986, 2.3) stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Target {
    /// Reads the path of a request. `None` if no file can have that name: a segment that is empty, `.` or `..`, begins
    /// with a dot, or holds a slash or a NUL once decoded.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut names: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let folder = names.pop_if(|last| last.is_empty()).is_some();
        let mut segments: Vec<Vec<u8>> = Vec::with_capacity(names.len());
        for name in names {
            let name: Vec<u8> = percent_decode_str(name).collect();
            let hidden = name.starts_with(b".") && !(name == b".well-known" && segments.is_empty());
            if name.is_empty() || hidden || name.iter().any(|&byte| byte == b'/' || byte == 0) {
                return None;
            }
            segments.push(name);
        }
        Some(Self { segments, folder })
    }

    /// The path, encoded afresh, without a slash at its end.
    pub(super) fn encoded(&self) -> String {
        let segments = self.segments.iter();
        segments.map(|segment| format!("/{}", percent_encode(segment, ENCODED))).collect()
    }

    fn relative(&self) -> PathBuf {
        self.segments.iter().map(|segment| Path::new(std::ffi::OsStr::from_bytes(segment))).collect()
    }
}

/// A path of a request, each segment encoded afresh.
pub(super) fn encoded(path: &str) -> String {
    let encoded = path.split('/').map(|segment| {
        let segment: Vec<u8> = percent_decode_str(segment).collect();
        percent_encode(&segment, ENCODED).to_string()
    });
    encoded.collect::<Vec<_>>().join("/")
}

/// Opens what `target` names below `root`.
///
/// # Errors
/// Those of opening, except for the ones that mean that there is no such file.
pub(super) fn open(root: &Path, target: &Target) -> io::Result<Found> {
    let mut name = target.relative();
    let Some((file, metadata)) = open_below(root, &name)? else { return Ok(Found::Nothing) };
    if metadata.is_dir() {
        if !target.folder {
            return Ok(Found::Folder);
        }
        name.push("index.html");
        return match open_below(root, &name)? {
            Some((file, metadata)) if metadata.is_file() => Ok(Found::file(file, name, &metadata)),
            _ => Ok(Found::Nothing),
        };
    }
    // a socket, a device or a pipe is not served, nor is a file a folder
    if !metadata.is_file() || target.folder {
        return Ok(Found::Nothing);
    }
    Ok(Found::file(file, name, &metadata))
}

/// Without waiting for the writer of a pipe, and without becoming the terminal of anything.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `name` such that no step of the way leaves `root`: by openat2(2) with `RESOLVE_BENEATH`, or, on a kernel
/// before 5.6 or in a sandbox that forbids it, by resolving first and comparing. The latter leaves a gap in which
/// somebody who can write below the root could exchange a folder for a link.
fn open_below(root: &Path, name: &Path) -> io::Result<Option<(File, Metadata)>> {
    let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let here = if name.as_os_str().is_empty() { Path::new(".") } else { name };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RACES {
        let opened = match rustix::fs::openat2(&folder, here, FLAGS, Mode::empty(), resolve) {
            // a rename somewhere on the way, while it was walked
            Err(Errno::AGAIN) => continue,
            Err(Errno::NOSYS | Errno::PERM) => return open_resolved(root, name),
            opened => opened.map_err(io::Error::from),
        };
        return present(opened.map(File::from));
    }
    Err(Errno::AGAIN.into())
}

/// How many renames during a walk are put up with.
const RACES: usize = 16;

fn open_resolved(root: &Path, name: &Path) -> io::Result<Option<(File, Metadata)>> {
    let opened = || {
        let root = fs::canonicalize(root)?;
        let path = fs::canonicalize(root.join(name))?;
        if !path.starts_with(&root) {
            return Err(Errno::XDEV.into());
        }
        Ok(rustix::fs::open(&path, FLAGS | OFlags::NOFOLLOW, Mode::empty())?.into())
    };
    present(opened())
}

/// `None` for the errors that mean that nothing of that name is there.
fn present(opened: io::Result<File>) -> io::Result<Option<(File, Metadata)>> {
    match opened {
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(Some((file, metadata)))
        }
        Err(error) => match Errno::from_io_error(&error) {
            // XDEV: it leads out of the root. NXIO: a socket, or a pipe without a reader
            Some(
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG | Errno::NXIO,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_targets() {
        for (path, segments, folder) in [
            ("/", &[][..], true),
            ("/a", &["a"], false),
            ("/a/", &["a"], true),
            ("/a/b%20c", &["a", "b c"], false),
            ("/100%", &["100%"], false),
            ("/.well-known/x", &[".well-known", "x"], false),
            ("/a\\b", &["a\\b"], false),
        ] {
            let segments = segments.iter().map(|segment| segment.as_bytes().to_vec()).collect();
            assert_eq!(Target::of(path), Some(Target { segments, folder }), "{path}");
        }
        for path in [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/..",
            "/../a",
            "/a/../b",
            "/%2e%2e/a",
            "/.%2E",
            "/./a",
            "/.",
            "/.git",
            "/a/.env",
            "/a%2fb",
            "/%2Fetc",
            "/a%00",
            "/a/.well-known",
        ] {
            assert_eq!(Target::of(path), None, "{path}");
        }
    }

    #[test]
    fn an_encoded_target_cannot_be_taken_for_another_host() {
        assert_eq!(Target::of("/\\evil.example").unwrap().encoded(), "/%5Cevil.example");
        assert_eq!(Target::of("/a b/%C3%BC").unwrap().encoded(), "/a%20b/%C3%BC");
    }
    #[test]
    fn resolving_first_and_comparing_gives_no_way_out_either() {
        let folder = std::env::temp_dir().join(format!("greenserve-resolved-{}", std::process::id()));
        let root = folder.join("root");
        fs::create_dir_all(&root).unwrap();
        fs::write(folder.join("secret"), "secret").unwrap();
        fs::write(root.join("file"), "file").unwrap();
        for (to, name) in
            [("../secret", "up"), ("..", "parent"), ("/etc", "etc"), ("file", "inside"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        }
        for (name, there) in [
            ("file", true),
            ("inside", true),
            ("", true),
            ("up", false),
            ("parent", false),
            ("parent/secret", false),
            ("etc/passwd", false),
            ("loop", false),
            ("nothing", false),
        ] {
            assert_eq!(open_resolved(&root, Path::new(name)).unwrap().is_some(), there, "{name}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
