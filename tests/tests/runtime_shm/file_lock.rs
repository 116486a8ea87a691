//! Locks on files, between programs that know of each other by a path only.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use greenlet::shm::FileLock;
use greenlet::{sleep, spawn};
use greenserve_tests::{PATIENCE, Scratch, eventually, in_time};

use crate::{SHORT, in_process};

/// In a process with this, the test `holds_a_file_lock_for_another` holds that lock until it is killed.
const PATH: &str = "RUNTIME_TEST_FILE_LOCK";

#[test]
fn holds_a_file_lock_for_another() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let guard = FileLock::new(path).lock().unwrap();
    let mut file = guard.file();
    file.write_all(b"held").unwrap();
    sleep(crate::FOREVER);
}

#[test]
fn a_program_that_is_killed_frees_it() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let mut other = Command::new(std::env::current_exe().unwrap())
            .args(["file_lock::holds_a_file_lock_for_another", "--exact"])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually(PATIENCE, || std::fs::read(&path).is_ok_and(|text| text == b"held"));
        let lock = FileLock::new(&path);
        assert!(lock.try_lock().unwrap().is_none());
        assert!(lock.try_lock_shared().unwrap().is_none());
        assert_eq!(lock.lock_timeout(SHORT).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let waiter = spawn({
            let lock = lock.clone();
            move || drop(lock.lock().unwrap())
        });
        sleep(SHORT);
        other.kill().unwrap();
        other.wait().unwrap();
        waiter.join_timeout(PATIENCE).unwrap();
        assert!(lock.try_lock().unwrap().is_some());
    });
}

#[test]
fn greenlets_of_one_process_exclude_each_other() {
    in_time(|| {
        let scratch = Scratch::new();
        let lock = FileLock::new(scratch.path().join("lock"));
        let value = std::rc::Rc::new(std::cell::Cell::new(0));
        let jobs = [(); 4].map(|()| {
            let (lock, value) = (lock.clone(), std::rc::Rc::clone(&value));
            spawn(move || {
                for _ in 0..5 {
                    let _guard = lock.lock().unwrap();
                    let seen = value.get();
                    sleep(Duration::from_micros(100));
                    value.set(seen + 1);
                }
            })
        });
        greenlet::join_all(&jobs, PATIENCE).unwrap();
        assert_eq!(value.get(), 20);
    });
}

#[test]
fn a_waiter_that_is_killed_leaves_the_lock_to_others() {
    in_time(|| {
        let scratch = Scratch::new();
        let lock = FileLock::new(scratch.path().join("lock"));
        let shared = (lock.lock_shared().unwrap(), lock.try_lock_shared().unwrap().unwrap());
        let waiter = spawn({
            let lock = lock.clone();
            move || drop(lock.lock())
        });
        sleep(SHORT);
        waiter.kill().unwrap();
        drop(shared);
        // what a thread was doing for the dead one it may still be at
        drop(lock.lock_timeout(PATIENCE).unwrap());
    });
}

#[test]
fn a_deleted_file_is_no_lock_any_more() {
    in_time(|| {
        let scratch = Scratch::new();
        let lock = FileLock::new(scratch.path().join("lock"));
        let old = lock.lock().unwrap();
        std::fs::remove_file(lock.path()).unwrap();
        let new = lock.try_lock().unwrap().expect("another file");
        drop(old);
        assert!(lock.try_lock().unwrap().is_none());
        drop(new);
    });
}

#[test]
fn an_error_names_the_file() {
    in_time(|| {
        let error = FileLock::new("/no/such/folder/lock").lock().unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/lock"), "{error}");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn a_forked_child_does_not_keep_what_the_parent_gives_back() {
    in_process("file_lock::a_forked_child_does_not_keep_what_the_parent_gives_back", || {
        let scratch = Scratch::new();
        let lock = FileLock::new(scratch.path().join("lock"));
        let guard = lock.lock().unwrap();
        let child = crate::Worker::start(|| {
            sleep(crate::FOREVER);
            true
        });
        drop(guard);
        assert!(lock.try_lock().unwrap().is_some());
        child.kill();
    });
}
