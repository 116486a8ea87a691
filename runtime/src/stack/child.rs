//! For tests of what ends a process, or needs one to itself.

use std::process::{Command, Output};
use std::{any, env};

/// Runs `body` in a child process of its own, which starts this test binary again with nothing but `test` to
/// run, and returns how that went. In the child this does not return. A child that hangs is killed after a
/// minute.
pub(super) fn in_child<T: Fn()>(test: T, body: impl FnOnce()) -> Output {
    const CHILD: &str = "GREENLET_TEST_CHILD";
    let name = name_of(&test);
    if env::var(CHILD).is_ok_and(|child| child == name) {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls change limits of this process and no memory.
        unsafe {
            libc::alarm(60);
            libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        }
        body();
        std::process::exit(0);
    }
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1", &name])
        .env(CHILD, &name)
        .output()
        .unwrap()
}

/// What went to standard error.
pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The name of a test function as the test binary knows it: its path without the crate.
fn name_of<T>(_: &T) -> String {
    let path = any::type_name::<T>();
    path.split_once("::").map_or(path, |(_, name)| name).to_owned()
}
