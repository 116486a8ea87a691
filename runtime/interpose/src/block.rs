//! A thread's block of thread-locals: those of the executable, or of the shared library that this crate is part of.

use std::cell::Cell;
use std::ffi::c_void;
use std::ops::Range;

use libc::{c_int, dl_iterate_phdr, dl_phdr_info};

thread_local! {
    /// Lies in the block itself.
    static BOUNDS: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// From where to where this thread's lies; empty if the loader does not tell. Its provenance is exposed.
pub(crate) fn bounds() -> Range<usize> {
    BOUNDS.with(|bounds| {
        let (begin, end) = bounds.get().unwrap_or_else(|| {
            let found = find(std::ptr::from_ref(bounds).addr());
            bounds.set(Some(found));
            found
        });
        begin..end
    })
}

/// The bounds of the block that has this address in it.
#[cold]
fn find(address: usize) -> (usize, usize) {
    struct Search {
        address: usize,
        found: (usize, usize),
    }
    unsafe extern "C" fn visit(info: *mut dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: what the loader gives, and the search below, which it is given.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: as many as the loader says.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let Some(locals) = headers.iter().find(|header| header.p_type == libc::PT_TLS) else { return 0 };
        // Null if this thread has not used them yet.
        let begin = info.dlpi_tls_data.expose_provenance();
        let end = begin + locals.p_memsz as usize;
        if begin == 0 || !(begin..end).contains(&search.address) {
            return 0;
        }
        search.found = (begin, end);
        1
    }
    let mut search = Search { address, found: (0, 0) };
    // SAFETY: the callback has the search for the length of this call.
    unsafe { dl_iterate_phdr(Some(visit), std::ptr::from_mut(&mut search).cast()) };
    search.found
}
