//! As whom to serve: what is root's is had first (ports, keys, logs), then a worker becomes another user for good.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};
use nix::unistd::{getresgid, getresuid, initgroups, setgid, setgroups, setuid};
use rustix::fs::Mode;

use crate::config::{Account, Config, Umask};

/// The user and groups that workers have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    uid: Uid,
    gid: Gid,
    /// The user's name, if its other groups are to be had as well.
    groups_of: Option<CString>,
}

impl Identity {
    /// What the settings ask for; `None` if that is what this process is.
    ///
    /// # Errors
    /// `NotFound` for a user or group that this system does not know, `PermissionDenied` if this process is not root and so
    /// can't become another, `InvalidInput` for settings of which one lacks another.
    pub(crate) fn of(config: &Config) -> io::Result<Option<Identity>> {
        let fault = |kind, what: String| Err(io::Error::new(kind, what));
        let entry = match &config.user {
            None => None,
            Some(Account::Id(id)) => User::from_uid(Uid::from_raw(*id))?,
            Some(Account::Name(name)) => match User::from_name(name)? {
                None => {
                    return fault(
                        io::ErrorKind::NotFound,
                        format!("--user {name}: this system has no such user"),
                    );
                }
                found => found,
            },
        };
        if config.initgroups && entry.is_none() {
            let what =
                "--initgroups needs a --user that this system knows, or nobody knows the groups".to_owned();
            return fault(io::ErrorKind::InvalidInput, what);
        }
        let uid = match (&config.user, &entry) {
            (Some(Account::Id(id)), _) => Uid::from_raw(*id),
            (_, Some(entry)) => entry.uid,
            _ => Uid::effective(),
        };
        let gid = match (&config.group, &entry) {
            (Some(Account::Id(id)), _) => Gid::from_raw(*id),
            (Some(Account::Name(name)), _) => match Group::from_name(name)? {
                Some(group) => group.gid,
                None => {
                    return fault(
                        io::ErrorKind::NotFound,
                        format!("--group {name}: this system has no such group"),
                    );
                }
            },
            (None, Some(entry)) => entry.gid,
            (None, None) if config.user.is_some() => {
                let what =
                    format!("--user {uid}: this system has no such user, so that a --group is needed, too");
                return fault(io::ErrorKind::InvalidInput, what);
            }
            (None, None) => return Ok(None),
        };
        if !Uid::effective().is_root() {
            if (uid, gid) == (Uid::effective(), Gid::effective()) {
                return Ok(None);
            }
            let what = format!(
                "only root can serve as another user: start the server as root, or without --user and --group \
                 (it is user {} and was to be {uid}, group {gid})",
                Uid::effective()
            );
            return fault(io::ErrorKind::PermissionDenied, what);
        }
        let groups_of = match entry {
            Some(entry) if config.initgroups => Some(CString::new(entry.name)?),
            _ => None,
        };
        Ok(Some(Identity { uid, gid, groups_of }))
    }

    /// Becomes it, and makes sure that there is no way back.
    ///
    /// # Errors
    /// The kernel's refusal; or there is a way back. The process must not go on then: it is neither the one nor the other.
    pub(crate) fn assume(&self) -> io::Result<()> {
        let named = |error: nix::Error| {
            let error = io::Error::from(error);
            let what = format!("can't become user {}, group {}: {error}", self.uid, self.gid);
            io::Error::new(error.kind(), what)
        };
        // Groups first: who is not root any more can't change them.
        match &self.groups_of {
            Some(name) => initgroups(name, self.gid),
            None => setgroups(&[self.gid]),
        }
        .and_then(|()| setgid(self.gid))
        .and_then(|()| setuid(self.uid))
        .map_err(named)?;
        let (users, groups) = (getresuid().map_err(named)?, getresgid().map_err(named)?);
        let is_all = [users.real, users.effective, users.saved].iter().all(|uid| *uid == self.uid)
            && [groups.real, groups.effective, groups.saved].iter().all(|gid| *gid == self.gid);
        let root = Uid::from_raw(0);
        let is_final =
            self.uid.is_root() || (setuid(root).is_err() && (self.is_roots() || setgid(ROOTS).is_err()));
        if !is_all || !is_final {
            let what = format!("became user {}, group {}, but could become root again", self.uid, self.gid);
            return Err(io::Error::other(what));
        }
        Ok(())
    }

    fn is_roots(&self) -> bool {
        self.gid == ROOTS
    }

    /// Gives it a log file, which a worker must be able to open again. What is no file (a terminal, a pipe) is left alone, and so
    /// is what may be another's: a symbolic link or a second name that the workers' user has laid there.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn own_file(&self, path: &Path) -> io::Result<()> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().append(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(()),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        if !found.is_file() || found.nlink() > 1 {
            return Ok(());
        }
        fchown(&file, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Gives it the Unix socket at `path`.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn own_socket(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }
}

/// The group that root has.
const ROOTS: Gid = Gid::from_raw(0);

/// Does what makes files whose permissions are to go by `mask`: Unix sockets. For a process with one thread.
pub(crate) fn with_umask<T>(mask: Umask, make: impl FnOnce() -> T) -> T {
    let before = rustix::process::umask(Mode::from_raw_mode(mask.0));
    let made = make();
    rustix::process::umask(before);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(user: &str, group: &str, initgroups: bool) -> io::Result<Option<Identity>> {
        let account = |name: &str| (!name.is_empty()).then(|| Account::Name(name.to_owned()));
        Identity::of(&Config { user: account(user), group: account(group), initgroups, ..Config::default() })
    }

    #[test]
    fn unknown_names_are_named() {
        for (user, group) in [("no such user", ""), ("", "no such group")] {
            let error = named(user, group, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("no such "), "{error}");
        }
        let error = named("", "", true).unwrap_err();
        assert!(error.to_string().contains("--initgroups needs a --user"), "{error}");
        assert_eq!(named("", "", false).unwrap(), None);
        let unknown = Config { user: Some(Account::Id(4_000_000_000)), ..Config::default() };
        assert!(Identity::of(&unknown).unwrap_err().to_string().contains("--group"));
    }

    #[test]
    fn without_a_group_the_users_own_is_taken() {
        let Ok(Some(root)) = User::from_uid(Uid::from_raw(0)) else { return };
        if Uid::effective().is_root() {
            let identity = named(&root.name, "", true).unwrap().unwrap();
            assert_eq!((identity.uid, identity.gid), (root.uid, root.gid));
            assert!(identity.groups_of.is_some());
        } else {
            let error = named(&root.name, "", false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_log_file_is_not_given_away() {
        if !Uid::effective().is_root() {
            eprintln!("NOT CHECKED: only root can give files away");
            return;
        }
        let dir = std::env::temp_dir().join(format!("greenserve-own-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let owner = |name: &str| std::fs::metadata(dir.join(name)).unwrap().uid();
        for name in ["log", "secret", "other"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(dir.join("secret"), dir.join("symbolic")).unwrap();
        std::fs::hard_link(dir.join("other"), dir.join("hard")).unwrap();
        let identity = Identity { uid: Uid::from_raw(12345), gid: Gid::from_raw(12345), groups_of: None };
        for name in ["log", "symbolic", "hard"] {
            identity.own_file(&dir.join(name)).unwrap();
        }
        assert_eq!((owner("log"), owner("secret"), owner("other")), (12345, 0, 0));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
