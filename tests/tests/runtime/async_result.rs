//! `AsyncResult`: set once, got by many.

use std::io;
use std::rc::Rc;

use greenlet::sync::{AsyncResult, ResultError};
use greenlet::{WaitError, join_all, spawn, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, SHORT};

#[test]
fn all_who_wait_get_the_one_value() {
    in_time(|| {
        let result = Rc::new(AsyncResult::new());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let result = Rc::clone(&result);
                spawn(move || result.get().unwrap() as *const String as usize)
            })
            .collect();
        yield_now();
        assert!(!result.is_ready() && result.value().is_none() && result.try_get().is_none());
        result.set("done".to_owned()).unwrap();
        join_all(&waiters, None).unwrap();
        let here = result.get().unwrap();
        assert_eq!(here, "done");
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), here as *const String as usize, "no copies");
        }
        assert!(result.is_ready() && result.is_successful() && result.error().is_none());
    });
}

#[test]
fn an_error_reaches_all_who_wait() {
    in_time(|| {
        let result = Rc::new(AsyncResult::<u32>::new());
        let waiter = spawn({
            let result = Rc::clone(&result);
            move || result.get().copied()
        });
        yield_now();
        result.set_error(io::Error::new(io::ErrorKind::NotFound, "no such thing")).unwrap();
        let error = waiter.join().unwrap().unwrap_err();
        let ResultError::Failed(inner) = &error else { panic!("{error:?}") };
        assert_eq!(inner.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "no such thing");
        assert!(result.is_ready() && !result.is_successful() && result.value().is_none());
        assert!(result.wait().is_ok(), "an error ends a wait as a value does");
    });
}

#[test]
fn what_is_set_stays_and_a_second_one_comes_back() {
    in_time(|| {
        let result = AsyncResult::new();
        result.set(1).unwrap();
        assert_eq!(result.set(2), Err(2));
        assert_eq!(result.set_error("late").unwrap_err().to_string(), "late");
        assert_eq!(*result.get().unwrap(), 1);
        assert_eq!(result.into_value(), Some(1));
        let failed = AsyncResult::<u32>::new();
        failed.set_error("first").unwrap();
        assert_eq!(failed.set(3), Err(3));
        assert_eq!(failed.set_error("second").unwrap_err().to_string(), "second");
        assert_eq!((failed.error().unwrap().to_string(), failed.into_value()), ("first".to_owned(), None));
        assert_eq!(*AsyncResult::from(7).get().unwrap(), 7);
    });
}

#[test]
fn one_who_gives_up_leaves_no_trace_and_the_others_get_the_value() {
    in_time(|| {
        let result = Rc::new(AsyncResult::new());
        let timed_out =
            |error| matches!(error, ResultError::Wait(WaitError::TimedOut)).then_some(()).expect("timed out");
        timed_out(result.get_timeout(SHORT).unwrap_err());
        assert_eq!(result.wait_timeout(SHORT), Err(WaitError::TimedOut));
        let waiters = [(); 2].map(|()| {
            let result = Rc::clone(&result);
            spawn(move || result.get().copied().unwrap())
        });
        yield_now();
        waiters[0].kill().unwrap();
        result.set(5).unwrap();
        assert_eq!(waiters[1].join().unwrap(), 5);
        assert_eq!(greenlet::stats().timers, 0);
    });
}

#[test]
fn main_waiting_for_what_nobody_will_set_is_told_so() {
    in_time(|| {
        let error = AsyncResult::<()>::new().get().unwrap_err();
        assert!(error.to_string().contains("waits for an AsyncResult"), "{error}");
    });
}

#[test]
fn the_value_is_dropped_once_with_the_result() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let result = AsyncResult::from(flag);
        let (late, late_dropped) = DropFlag::new();
        drop(result.set(late));
        assert!(late_dropped.get() && !dropped.get());
        drop(result);
        assert!(dropped.get());
    });
}
