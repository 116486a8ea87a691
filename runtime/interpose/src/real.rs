//! libc's own definitions of what this crate defines, for those that are more than a system call.

use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The address of libc's own definition of a function; looked up once.
pub(crate) struct Real {
    name: &'static CStr,
    version: Option<&'static CStr>,
    address: AtomicUsize,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Real {
        Real { name, version: None, address: AtomicUsize::new(0) }
    }

    /// Of this version and no other.
    pub(crate) const fn versioned(name: &'static CStr, version: &'static CStr) -> Real {
        Real { name, version: Some(version), address: AtomicUsize::new(0) }
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
        // SAFETY: the names are C strings. Looking up a name that exists neither allocates nor waits for anything but the
        // loader's own lock.
        let address = unsafe {
            match self.version {
                Some(version) => libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), version.as_ptr()),
                None => libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()),
            }
        }
        .addr();
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

/// `real!(fn name(type, …) -> type)`: libc's own function of that name, as a function pointer. What is thrown through it, by
/// C++ or by a cancelled thread, goes on where the caller is `extern "C-unwind"`. `real!("GLIBC_2.3.2", fn …)` is
/// the one of that symbol version.
macro_rules! real {
    ($version:literal, fn $name:ident $arguments:tt $(-> $result:ty)?) => {
        $crate::real::real!(
            @ versioned($crate::real::c_name(concat!($version, "\0"))), fn $name $arguments $(-> $result)?
        )
    };
    (fn $name:ident $arguments:tt $(-> $result:ty)?) => {
        $crate::real::real!(@ new(), fn $name $arguments $(-> $result)?)
    };
    (@ $new:ident($($version:expr)?), fn $name:ident($($argument:ty),* $(,)?) $(-> $result:ty)?) => {{
        static REAL: $crate::real::Real =
            $crate::real::Real::$new($crate::real::c_name(concat!(stringify!($name), "\0")), $($version)?);
        // SAFETY: it is libc's function of that name, whose type is written here as its header has it.
        #[allow(unused_unsafe, reason = "what surrounds it may be unsafe for the call's sake")]
        let own = unsafe {
            ::std::mem::transmute::<usize, unsafe extern "C-unwind" fn($($argument),*) $(-> $result)?>(REAL.address())
        };
        own
    }};
}
pub(crate) use real;

/// For [`real`]: a name that ends with a zero.
pub(crate) const fn c_name(name: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name with one zero, at its end"),
    }
}
