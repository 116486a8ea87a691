//! What a process may do to itself as long as it has only one thread.

use std::ffi::OsStr;
use std::io;

use super::fork::other_threads;

/// Sets a variable of the environment, or removes it, in a process in which this thread is the only one; that is what makes
/// [`std::env::set_var`] unsafe.
///
/// # Errors
/// `Unsupported` where there is another thread, or where the system does not tell; `InvalidInput` for a name that is empty or
/// holds `=` or a NUL, and for a value with a NUL.
///
/// ```standalone_crate
/// # fn main() -> std::io::Result<()> {
/// greenlet::process::set_env("GREETING", Some("hello"))?;
/// assert_eq!(std::env::var("GREETING").as_deref(), Ok("hello"));
/// greenlet::process::set_env("GREETING", None::<&str>)?;
/// assert!(std::env::var_os("GREETING").is_none());
/// assert!(greenlet::process::set_env("A=B", Some("")).is_err());
/// # Ok(()) }
/// ```
pub fn set_env(name: impl AsRef<OsStr>, value: Option<impl AsRef<OsStr>>) -> io::Result<()> {
    let name = name.as_ref();
    let has_nul = |text: &OsStr| text.as_encoded_bytes().contains(&0);
    let is_name = !name.is_empty() && !name.as_encoded_bytes().contains(&b'=') && !has_nul(name);
    if !is_name || value.as_ref().is_some_and(|value| has_nul(value.as_ref())) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} or its value can't stand in the environment"),
        ));
    }
    must_be_alone()?;
    match value {
        // SAFETY: there is no other thread that could read or change the environment meanwhile.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
    Ok(())
}

/// Sets what `ps` shows as this process's command line (setproctitle(3)), in a process in which this thread is the only one. The
/// arguments and the environment stay as they are.
///
/// # Errors
/// `Unsupported` where there is another thread, where the system does not tell, and where it has no such thing (Linux 3.18 with
/// `CONFIG_CHECKPOINT_RESTORE`, as distributions have it); the kernel's.
///
/// ```standalone_crate
/// # fn main() -> std::io::Result<()> {
/// for title in ["server: master", "server: master [with a name that is longer than all its arguments were together]", "x"] {
///     if let Err(error) = greenlet::process::set_title(title) {
///         eprintln!("NOT CHECKED: {error}");
///         continue;
///     }
///     assert_eq!(std::fs::read("/proc/self/cmdline")?, format!("{title}\0").as_bytes());
///     assert_ne!(std::env::args().next().as_deref(), Some(title), "the arguments stay as they are");
/// }
/// # Ok(()) }
/// ```
pub fn set_title(title: &str) -> io::Result<()> {
    must_be_alone()?;
    #[cfg(target_os = "linux")]
    return linux::set_title(title);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = title;
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn must_be_alone() -> io::Result<()> {
    match other_threads()? {
        0 => Ok(()),
        others => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this process has {others} more threads, which may look on meanwhile"),
        )),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Mutex;
    use std::{fs, io, mem};

    /// The title that the kernel has the address of.
    static TITLE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    /// prctl(2), PR_SET_MM_MAP.
    #[repr(C)]
    struct Map {
        start_code: u64,
        end_code: u64,
        start_data: u64,
        end_data: u64,
        start_brk: u64,
        brk: u64,
        start_stack: u64,
        arg_start: u64,
        arg_end: u64,
        env_start: u64,
        env_end: u64,
        auxv: u64,
        auxv_size: u32,
        exe_fd: u32,
    }

    /// The caller has made sure that there is no other thread.
    pub(super) fn set_title(title: &str) -> io::Result<()> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name before the parenthesis may hold anything; behind it comes the third field (proc_pid_stat(5)).
        let (_, rest) = stat.rsplit_once(')').ok_or(io::ErrorKind::Unsupported)?;
        let fields: Vec<u64> = rest.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        let field = |number: usize| {
            let value = fields.get(number - 3).copied().filter(|value| *value != 0);
            value.ok_or(io::Error::from(io::ErrorKind::Unsupported))
        };
        // What stands behind the title is not read: the last byte is a NUL.
        let mut text: Vec<u8> = title.bytes().filter(|byte| *byte != 0).collect();
        text.push(0);
        let mut map = Map {
            start_code: field(26)?,
            end_code: field(27)?,
            start_data: field(45)?,
            end_data: field(46)?,
            start_brk: field(47)?,
            brk: 0,
            start_stack: field(28)?,
            arg_start: text.as_ptr() as u64,
            arg_end: text.as_ptr_range().end as u64,
            env_start: field(50)?,
            env_end: field(51)?,
            auxv: 0,
            auxv_size: 0,
            exe_fd: u32::MAX,
        };
        // SAFETY: asks only.
        map.brk = unsafe { libc::sbrk(0) } as u64;
        // SAFETY: `map` has the kernel's layout and the size that is given, and lives until the call is over. All that it says
        // but for the arguments is what already holds: the program break, which an allocation could move, was asked for just
        // now, and there is no other thread to make one. Auxiliary vector (no size) and executable (no descriptor) stay. The
        // kernel reads the arguments only to show them, and never faults on them.
        let set = unsafe {
            let (what, nothing) = (libc::PR_SET_MM_MAP as libc::c_ulong, 0 as libc::c_ulong);
            libc::prctl(
                libc::PR_SET_MM,
                what,
                &raw const map,
                mem::size_of::<Map>() as libc::c_ulong,
                nothing,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // The old one goes when nobody looks at it any more.
        *TITLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = text;
        Ok(())
    }
}
