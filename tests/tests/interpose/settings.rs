//! Which calls are switched on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenlet_interpose::settings::{self, Files, Stdout};
use greenlet_interpose::{Call, configure, is_on, set};
use greenserve_tests::{in_process, in_process_with};

/// Whether a greenlet that sleeps by libc's call lets another one run.
fn a_sleep_parks() -> bool {
    let ran = Rc::new(Cell::new(false));
    let seen = ran.clone();
    let sleeps = greenlet::spawn(move || {
        let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the pointer is valid, the other may be null.
        assert_eq!(unsafe { libc::nanosleep(&moment, std::ptr::null_mut()) }, 0);
        seen.get()
    });
    greenlet::spawn(move || ran.set(true));
    sleeps.join().unwrap()
}

#[test]
fn all_calls_are_on_unless_said_otherwise() {
    in_process("settings::all_calls_are_on_unless_said_otherwise", || {
        assert!(Call::ALL.iter().all(|call| is_on(*call)));
        assert_eq!((settings::files(), settings::stdout()), (Files::Through, Stdout::Through));
        assert_eq!(settings::describe().to_string(), "all,files=through,stdout=through");
        assert!(a_sleep_parks());
    });
}

#[test]
fn a_call_can_be_switched_off_and_on_again() {
    in_process("settings::a_call_can_be_switched_off_and_on_again", || {
        set(Call::nanosleep, false);
        assert!(!is_on(Call::nanosleep) && is_on(Call::clock_nanosleep));
        assert!(!a_sleep_parks(), "the thread sleeps, and its greenlets with it");
        set(Call::nanosleep, true);
        assert!(a_sleep_parks());
        configure("-time, files=pool, stdout=park").unwrap();
        assert!(!a_sleep_parks());
        assert!(!is_on(Call::sleep) && is_on(Call::recv));
        assert_eq!((settings::files(), settings::stdout()), (Files::Pool, Stdout::Park));
        assert_eq!(settings::describe().to_string(), "all,-time,files=pool,stdout=park");
    });
}

#[test]
fn a_wrong_word_changes_nothing() {
    in_process("settings::a_wrong_word_changes_nothing", || {
        let error = configure("none, -tmie").unwrap_err();
        assert_eq!((error.word(), error.suggestion()), ("-tmie", Some("time")));
        let text =
            "'-tmie' is no call that is interposed, no group of calls and no policy; did you mean 'time'?";
        assert_eq!(error.to_string(), text);
        assert!(is_on(Call::nanosleep));
    });
}

#[test]
fn the_environment_switches_calls_off_before_main() {
    let test = "settings::the_environment_switches_calls_off_before_main";
    let said = in_process_with(
        test,
        |process| {
            process.env("GREENLET_INTERPOSE", "-nanosleep,-names");
        },
        || {
            assert_eq!(
                settings::describe().to_string(),
                "all,-nanosleep,-names,files=through,stdout=through"
            );
            assert!(!a_sleep_parks());
            std::thread::spawn(|| std::thread::sleep(Duration::from_millis(1))).join().unwrap();
        },
    );
    assert!(said.is_none_or(|said| !said.contains("GREENLET_INTERPOSE")));
}

#[test]
fn a_wrong_word_in_the_environment_is_told_and_ends_nothing() {
    let test = "settings::a_wrong_word_in_the_environment_is_told_and_ends_nothing";
    let said = in_process_with(
        test,
        |process| {
            process.env("GREENLET_INTERPOSE", "time,files=poll,recvv,watermelon");
        },
        || {
            assert!(is_on(Call::nanosleep) && !is_on(Call::recv));
            assert_eq!(settings::files(), Files::Through);
        },
    );
    let Some(said) = said else { return };
    let told: Vec<_> = said.lines().filter(|line| line.starts_with("GREENLET_INTERPOSE: ")).collect();
    assert_eq!(
        told,
        [
            "GREENLET_INTERPOSE: 'files=poll' is no call that is interposed, no group of calls and no policy; did you mean 'files=pool'?",
            "GREENLET_INTERPOSE: 'recvv' is no call that is interposed, no group of calls and no policy; did you mean 'recv'?",
            "GREENLET_INTERPOSE: 'watermelon' is no call that is interposed, no group of calls and no policy",
        ]
    );
}
