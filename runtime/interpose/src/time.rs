//! Sleeping.

use std::time::Duration;

use greenlet::foreign::{self, Woken};
use libc::{c_int, timespec};

use crate::calls::Call;
use crate::gate;
use crate::raw::{self, syscall};

/// nanosleep(2). Parks the greenlet; a kill ends it early, as though the time were over.
///
/// # Safety
/// As nanosleep(2): both pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(request: *const timespec, remaining: *mut timespec) -> c_int {
    // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
    let plain = || unsafe { raw::result(syscall!(SYS_nanosleep, request, remaining)) as c_int };
    let Some(call) = gate::enter(Call::nanosleep) else { return plain() };
    // SAFETY: null is left to the kernel to refuse, else it is valid.
    let Some(duration) = unsafe { request.as_ref() }.and_then(duration) else { return plain() };
    match foreign::sleep(foreign::deadline(duration)) {
        Woken::Refused => {
            drop(call);
            plain()
        }
        _ => 0,
    }
}

/// As a `Duration`, if it is valid.
pub(crate) fn duration(time: &timespec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}
