//! The names that the crate defines, as they stand in its sources: whether those who use libc arrive there.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};
use std::fs;
use std::path::Path;

use greenlet_interpose::Call;

const CRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/interpose");

/// What the crate defines, by its sources.
fn defined() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(CRATE).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.extend(defined_in(&fs::read_to_string(path).unwrap())),
            }
        }
    }
    names
}

fn defined_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in source.match_indices("#[unsafe(no_mangle)]") {
        let (_, after) = source[at..].split_once(" fn ").expect("a function");
        let name = &after[..after.find('(').unwrap()];
        if name != "$name" {
            names.push(name.to_owned());
            continue;
        }
        // Made by a macro of the same file: what that is called with has one name in each line.
        let (_, rules) = source[..at].rsplit_once("macro_rules! ").expect("it is in a macro");
        let call = format!("\n{}! {{\n", rules.split_once(' ').unwrap().0);
        let (_, called) = source.split_once(&call).expect("it is called");
        let lines = called.split_once("\n}").unwrap().0.lines();
        names.extend(lines.map(|line| line.trim().split_once('(').unwrap().0.to_owned()));
    }
    names
}

/// The file that has what is at an address.
fn file_of(address: *const c_void) -> *const c_void {
    // SAFETY: a C structure of pointers, for which null is nothing; any address may be asked for.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        assert_ne!(libc::dladdr(address, &raw mut found), 0, "it is nobody's");
        found.dli_fbase
    }
}

/// What those get who ask for a name, libraries that are loaded later among them.
fn found(name: &CStr) -> *const c_void {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    assert!(!address.is_null(), "{name:?} is not found at all");
    address
}

#[test]
fn each_name_that_is_defined_is_the_one_that_is_found() {
    let program = file_of(file_of as *const c_void);
    let libcs = file_of(found(c"getpid"));
    assert_ne!(program, libcs);
    let names = defined();
    assert!(names.len() >= Call::ALL.len(), "{names:?}");
    for name in names {
        let file = file_of(found(&CString::new(name.clone()).unwrap()));
        assert_ne!(file, libcs, "{name} is still libc's");
        assert_eq!(file, program, "{name}");
    }
}

/// Fortified names and those for large files, too.
#[test]
fn each_name_that_is_defined_is_in_the_table() {
    let page = fs::read_to_string(Path::new(CRATE).join("docs/calls.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let in_c: String = rows.map(|row| row.split(" | ").nth(2).unwrap()).collect();
    for name in defined() {
        assert!(in_c.contains(&format!("`{name}`")), "{name} is defined and not in docs/calls.md");
    }
}

#[test]
fn each_call_is_defined() {
    let names = defined();
    for call in Call::ALL {
        // Which has no function of its own.
        let name = if *call == Call::futex { "syscall" } else { call.name() };
        assert!(names.contains(name), "{name} is declared and not defined");
    }
}
