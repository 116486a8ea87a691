//! C code for tests: compiled when the test runs, and loaded into it.

use std::ffi::CString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::scratch;

/// A shared library that has been loaded, for as long as the process lives.
#[derive(Debug)]
pub struct Library(*mut libc::c_void);

/// Compiles C code into a shared library, with warnings as errors and `_FORTIFY_SOURCE`, and loads it.
///
/// # Panics
/// With the compiler's messages, if it has any.
pub fn load(source: &str) -> Library {
    load_with(source, &["-O2", "-D_FORTIFY_SOURCE=2"])
}

/// As [`load`], with flags of one's own (`-l` comes here, too).
///
/// # Panics
/// As [`load`].
pub fn load_with(source: &str, flags: &[&str]) -> Library {
    let (_scratch, library) = compile_with(source, flags);
    open(library)
}

/// As [`load`], C++ code.
///
/// # Panics
/// As [`load`].
pub fn load_cpp(source: &str) -> Library {
    let flags = ["-O2", "-D_FORTIFY_SOURCE=2", "-std=c++17"];
    let (_scratch, library) = compile("c++", "code.cpp", source, &flags);
    open(library)
}

fn open(library: PathBuf) -> Library {
    let name = CString::new(library.into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: what was just compiled has no constructors but what the test wrote.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "cannot load {name:?}: {}", error());
    Library(handle)
}

/// Compiles as [`load_with`], and loads nothing. Gives the library's path, and the folder that goes when it is dropped.
///
/// # Panics
/// As [`load`].
pub fn compile_with(source: &str, flags: &[&str]) -> (scratch::Scratch, PathBuf) {
    compile("cc", "code.c", source, flags)
}

fn compile(compiler: &str, file: &str, source: &str, flags: &[&str]) -> (scratch::Scratch, PathBuf) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let scratch = scratch::Scratch::new();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (code, library) = (scratch.path().join(file), scratch.path().join(format!("lib{number}.so")));
    std::fs::write(&code, format!("#undef _GNU_SOURCE\n#define _GNU_SOURCE\n{source}")).unwrap();
    let said = Command::new(compiler)
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-pthread", "-o"])
        .args([&library, &code])
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("a compiler, {compiler}: {error}"));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    (scratch, library)
}

fn error() -> String {
    // SAFETY: dlerror gives a C string or null, which lives until the next call on this thread.
    unsafe {
        let said = libc::dlerror();
        if said.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(said).to_string_lossy().into_owned()
        }
    }
}

impl Library {
    /// The function of that name, `F` being a pointer to it.
    ///
    /// # Safety
    /// `F` is a function pointer type, that of the function.
    ///
    /// # Panics
    /// If there is none.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut libc::c_void>());
        let c_name = CString::new(name).unwrap();
        // SAFETY: the library is loaded for good.
        let address = unsafe { libc::dlsym(self.0, c_name.as_ptr()) };
        assert!(!address.is_null(), "there is no {name}");
        // SAFETY: of the size of a pointer, and its type is the caller's promise.
        unsafe { std::mem::transmute_copy(&address) }
    }
}
