//! Where a control socket lies.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Its name in the folder where it usually lies.
pub(super) const NAME: &str = "greenserve.ctl";

/// Where it lies if no setting says otherwise: `$XDG_RUNTIME_DIR/greenserve.ctl` if that folder is there, else
/// `~/.greenserve/greenserve.ctl`. `None`: there is no home either.
pub(crate) fn usual() -> Option<PathBuf> {
    usual_of(env::var_os("XDG_RUNTIME_DIR"), env::var_os("HOME"), Path::is_dir)
}

fn usual_of(
    runtime: Option<OsString>,
    home: Option<OsString>,
    is_dir: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    let runtime = runtime.and_then(absolute).filter(|dir| is_dir(dir));
    runtime.or_else(|| home.and_then(absolute).map(|home| home.join(".greenserve"))).map(|dir| dir.join(NAME))
}

/// The same file whatever becomes of the working folder.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// The name beside `path` for one more master: a process id, or 2.
pub(crate) fn beside(path: &Path, which: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{which}"));
    name.into()
}

/// Whether `name` could be that of a socket named `plain`, or of one beside it.
pub(super) fn is_one_of(name: &OsStr, plain: &OsStr) -> bool {
    let (Some(name), Some(plain)) = (name.to_str(), plain.to_str()) else { return name == plain };
    match name.strip_prefix(plain) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_in_the_runtime_folder_or_at_home() {
        let at = |runtime: Option<&str>, home: Option<&str>| {
            usual_of(runtime.map(Into::into), home.map(Into::into), |dir| dir != Path::new("/gone"))
        };
        assert_eq!(at(Some("/run/user/7"), Some("/home/a")), Some("/run/user/7/greenserve.ctl".into()));
        for runtime in [None, Some(""), Some("relative"), Some("/gone")] {
            assert_eq!(at(runtime, Some("/home/a")), Some("/home/a/.greenserve/greenserve.ctl".into()));
        }
        assert_eq!(at(None, None), None);
    }

    #[test]
    fn others_lie_beside_it_with_a_number() {
        assert_eq!(beside(Path::new("/run/a.ctl"), 2), Path::new("/run/a.ctl.2"));
        let is = |name: &str| is_one_of(OsStr::new(name), OsStr::new("a.ctl"));
        assert!(is("a.ctl") && is("a.ctl.2") && is("a.ctl.4194303"));
        assert!(!is("a.ctl.bak") && !is("a.ctl2") && !is("b.ctl") && !is("a.ctl."));
    }
}
