//! A CPython in this process, and code run by it in greenlets.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::process::Command;
use std::sync::OnceLock;

use greenlet::{Builder, Greenlet};

/// What is used of CPython's interface. Pointers to its objects are just that.
macro_rules! api {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Api {
            /// # Safety
            /// The handle is that of a CPython library.
            unsafe fn of(library: *mut c_void) -> Api {
                Api {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the name is a C string, and the type is the one that CPython's headers have.
                        unsafe {
                            let address = libc::dlsym(library, name.as_ptr().cast());
                            assert!(!address.is_null(), "no {name}");
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(address)
                        }
                    },)*
                }
            }
        }
    };
}

type Object = *mut c_void;

api! {
    Py_InitializeEx: fn(c_int);
    PyInterpreterState_Main: fn() -> *mut c_void;
    PyThreadState_New: fn(*mut c_void) -> *mut c_void;
    PyThreadState_Clear: fn(*mut c_void);
    PyThreadState_DeleteCurrent: fn();
    PyEval_RestoreThread: fn(*mut c_void);
    PyEval_SaveThread: fn() -> *mut c_void;
    PyImport_AddModule: fn(*const c_char) -> Object;
    PyModule_GetDict: fn(Object) -> Object;
    PyDict_Copy: fn(Object) -> Object;
    PyRun_String: fn(*const c_char, c_int, Object, Object) -> Object;
    PyErr_Print: fn();
    Py_DecRef: fn(Object);
}

static API: OnceLock<Api> = OnceLock::new();

/// `Py_file_input`: a module's text.
const FILE: c_int = 257;

/// Where this machine's CPython has its shared library, and its home.
pub(crate) fn find() -> Option<(CString, CString)> {
    let script = "import sys, sysconfig as s; \
        print(s.get_config_var('LIBDIR') + '/' + s.get_config_var('INSTSONAME')); print(sys.base_prefix)";
    let said = Command::new("python3").args(["-c", script]).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let mut lines = said.lines();
    let (library, home) = (lines.next()?, lines.next()?);
    // A CPython that was built without a shared library has an archive's name there.
    let is_shared = library.contains(".so") && std::path::Path::new(library).exists();
    is_shared.then(|| (CString::new(library).unwrap(), CString::new(home).unwrap()))
}

/// Loads CPython and starts its interpreter. The lock is free afterwards.
pub(crate) fn start((library, home): (CString, CString)) {
    // SAFETY: CPython's library may be loaded at any time; nobody else in this process reads its environment now. The
    // interpreter is started once, on this thread.
    unsafe {
        libc::setenv(c"PYTHONHOME".as_ptr(), home.as_ptr(), 1);
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        assert!(!handle.is_null(), "{library:?}: {:?}", CStr::from_ptr(libc::dlerror()));
        let api = API.get_or_init(|| Api::of(handle));
        (api.Py_InitializeEx)(0);
        (api.PyEval_SaveThread)();
    }
}

/// Runs code with a thread state of its own, as `__main__` with the names that [`define`] made.
///
/// # Panics
/// If it raises something, which is printed.
pub(crate) fn run(code: &str) {
    assert!(execute(code, true), "Python has raised an exception");
}

/// Runs code whose names are there for all that runs later.
pub(crate) fn define(code: &str) {
    assert!(execute(code, false), "Python has raised an exception");
}

fn execute(code: &str, own_names: bool) -> bool {
    let api = API.get().expect("CPython was started");
    let code = CString::new(code).unwrap();
    // SAFETY: the state is this greenlet's alone, from here to its end; the lock is held wherever objects are touched.
    unsafe {
        let state = (api.PyThreadState_New)((api.PyInterpreterState_Main)());
        (api.PyEval_RestoreThread)(state);
        let shared = (api.PyModule_GetDict)((api.PyImport_AddModule)(c"__main__".as_ptr()));
        let names = if own_names { (api.PyDict_Copy)(shared) } else { shared };
        let result = (api.PyRun_String)(code.as_ptr(), FILE, names, names);
        match result.is_null() {
            true => (api.PyErr_Print)(),
            false => (api.Py_DecRef)(result),
        }
        if own_names {
            (api.Py_DecRef)(names);
        }
        (api.PyThreadState_Clear)(state);
        (api.PyThreadState_DeleteCurrent)();
        !result.is_null()
    }
}

/// [`run`] in a greenlet. Python's frames of C want a larger stack.
pub(crate) fn spawn(code: &'static str) -> Greenlet<()> {
    Builder::new().stack_size(4 << 20).spawn(move || run(code)).unwrap()
}
