//! The guard at the low end of every stack.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use super::sys;

/// How guards are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guards {
    /// A mark in the page table (`MADV_GUARD_INSTALL`, Linux 6.13): 0.4 to 0.7 us each, any number of them.
    Light,
    /// A page without permissions (`mprotect`): two mappings for each stack, so that the default
    /// `vm.max_map_count` of 65530 ends it near 32,000 stacks in one process.
    Mprotect,
}

impl Guards {
    /// The best this kernel has, found by trying it once in the life of the process: version numbers tell
    /// nothing about kernels with patches taken back, sandboxes and emulators. `--cfg greenlet_portable` forces the
    /// fall-back, for tests.
    pub(crate) fn best() -> Guards {
        if cfg!(greenlet_portable) {
            return Guards::Mprotect;
        }
        static BEST: OnceLock<Guards> = OnceLock::new();
        *BEST.get_or_init(|| {
            let len = sys::page_size();
            let Ok(start) = sys::map(len) else { return Guards::Mprotect };
            let page = start.get()..start.get() + len;
            // SAFETY: the page was mapped for this trial alone; nothing is in it.
            let tried = unsafe { sys::guard_light(page.clone()) };
            // SAFETY: as above, and the trial is over.
            unsafe { sys::unmap(page) };
            if tried.is_ok() { Guards::Light } else { Guards::Mprotect }
        })
    }

    /// Makes every access to `range` fault.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the kernel has no room for the mark, or for one more mapping.
    ///
    /// # Safety
    ///
    /// The range consists of whole pages of a slab which nothing uses.
    pub(super) unsafe fn install(self, range: Range<usize>) -> io::Result<()> {
        if self == Guards::Light {
            // SAFETY: the caller's promise is the same as ours.
            match unsafe { sys::guard_light(range.clone()) } {
                // Memory locked after the trial (mlockall) takes no light guards: the other kind serves.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                result => return result,
            }
        }
        // SAFETY: the caller's promise is the same as ours.
        unsafe { sys::guard_by_permission(range) }
    }

    /// Makes every access to `first` fault, and where it is cheaper to make several guards at once, also to further
    /// ranges of the same length, each of them `step` above the one before. Returns how many guards there are: at least
    /// one, at most `count`.
    ///
    /// # Errors
    ///
    /// As for [`install`](Self::install); no guard has been made then.
    ///
    /// # Safety
    ///
    /// As for [`install`](Self::install), for `count` ranges.
    pub(super) unsafe fn install_row(
        self,
        first: Range<usize>,
        step: usize,
        count: usize,
    ) -> io::Result<usize> {
        if self == Guards::Light && count > 1 {
            // SAFETY: the caller's promise is the same as ours.
            let made = unsafe { sys::guards_light(first.clone(), step, count) };
            if made > 0 {
                return Ok(made);
            }
        }
        // SAFETY: the caller's promise is the same as ours.
        unsafe { self.install(first) }.map(|()| 1)
    }
}
