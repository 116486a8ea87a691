//! libc's own definitions of what this crate defines, for those that are more than a system call.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The address of libc's own definition of a function; looked up once.
pub(crate) struct Real {
    name: &'static CStr,
    address: AtomicUsize,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Real {
        Real { name, address: AtomicUsize::new(0) }
    }

    /// Its address.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        match self.address.load(Ordering::Relaxed) {
            0 => self.look_up(),
            address => address,
        }
    }

    #[cold]
    fn look_up(&self) -> usize {
        // SAFETY: the name is a C string. Looking up a name that exists neither allocates nor waits for anything but the
        // loader's own lock.
        let address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) }.addr();
        if address == 0 {
            // The program calls what its libc doesn't have, so it could not have been linked without us.
            let _ = unsafe {
                // SAFETY: a constant message.
                crate::raw::syscall!(SYS_write, 2, self.name.as_ptr(), self.name.count_bytes())
            };
            std::process::abort();
        }
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// `real!(fn name(type, …) -> type)`: libc's own function of that name, as a function pointer.
macro_rules! real {
    (fn $name:ident($($argument:ty),* $(,)?) $(-> $result:ty)?) => {{
        static REAL: $crate::real::Real = $crate::real::Real::new(
            match ::std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!("a name without a zero in it"),
            },
        );
        // SAFETY: it is libc's function of that name, whose type is written here as its header has it.
        unsafe {
            ::std::mem::transmute::<usize, unsafe extern "C" fn($($argument),*) $(-> $result)?>(REAL.address())
        }
    }};
}
pub(crate) use real;
