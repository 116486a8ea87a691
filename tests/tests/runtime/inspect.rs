//! What the runtime tells of its greenlets.

use std::rc::Rc;
use std::time::Duration;

use greenlet::inspect::{Report, greenlets, run_info};
use greenlet::sync::Event;
use greenlet::{Builder, WaitError, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::FOREVER;

ctxlocal::ctxlocal! {
    static USER: std::cell::RefCell<String> = std::cell::RefCell::new(String::new());
}

#[inline(never)]
fn a_function_with_a_name(depth: u32) {
    if depth == 0 {
        sleep(FOREVER)
    } else {
        a_function_with_a_name(depth - 1)
    }
    std::hint::black_box(depth);
}

#[test]
fn the_stack_of_a_parked_greenlet_is_told_from_its_blocking_call_to_its_closure() {
    in_time(|| {
        let parked = spawn(|| a_function_with_a_name(2));
        yield_now();
        let infos = greenlets(true);
        let info = infos.iter().find(|info| info.id == parked.id()).unwrap();
        let trace = info.trace.as_deref().unwrap();
        assert_eq!(trace.matches("a_function_with_a_name").count(), 3, "{trace}");
        assert!(trace.lines().next().unwrap().contains("sleep"), "{trace}");
        assert!(!trace.contains("greenlet::hub") && !trace.contains("catch_unwind"), "{trace}");
        // It was looked at and not woken.
        assert!(!parked.is_dead());
        parked.kill().unwrap();
    });
}

#[test]
fn who_is_looked_at_a_hundred_times_goes_on_as_if_nothing_had_been() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let inner = event.clone();
        let parked = spawn(move || {
            let kept = [7_u8; 3000];
            inner.wait().unwrap();
            std::hint::black_box(kept).iter().map(|byte| u32::from(*byte)).sum::<u32>()
        });
        yield_now();
        for _ in 0..100 {
            assert!(greenlets(true).iter().all(|info| info.trace.is_some() || info.id == 0));
        }
        event.set();
        assert_eq!(parked.join().unwrap(), 21_000);
        assert_eq!((greenlet::stats().greenlets, greenlet::stats().timers), (0, 0));
    });
}

#[test]
fn a_report_from_inside_a_greenlet_tells_of_the_others_and_of_itself() {
    in_time(|| {
        let other = Builder::new().name("other").spawn(|| sleep(FOREVER)).unwrap();
        yield_now();
        let me = Builder::new().name("me").spawn(run_info).unwrap();
        let report = me.join().unwrap();
        assert!(report.contains("'other' (#1) sleeps"), "{report}");
        assert!(report.contains("'me' (#2) runs"), "{report}");
        assert!(report.contains("waits for the end of greenlet #2"), "{report}");
        other.kill().unwrap();
    });
}

#[test]
fn a_greenlet_stands_below_the_one_that_spawned_it() {
    in_time(|| {
        let parent = Builder::new()
            .name("parent")
            .spawn(|| {
                let child = Builder::new().name("child").spawn(|| sleep(FOREVER)).unwrap();
                let _ = child.join();
            })
            .unwrap();
        (0..3).for_each(|_| yield_now());
        let report = Report::new().stacks(false).to_string();
        let lines: Vec<_> = report.lines().collect();
        assert!(lines[0].starts_with("'") && lines[0].contains("(#0) runs"), "{report}");
        assert!(lines[1].starts_with("  'parent'") && lines[2].starts_with("    'child'"), "{report}");
        assert_eq!(lines.len(), 3);
        parent.kill().unwrap();
        // its parent is gone: it is told of all the same
        let report = Report::new().stacks(false).to_string();
        assert!(report.contains("'child'"), "{report}");
    });
}

#[test]
fn locals_are_told_by_name_when_asked_and_stay_where_they_are() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let inner = event.clone();
        let parked = spawn(move || {
            USER.with(|user| user.replace("ada".to_owned()));
            inner.wait().unwrap();
            USER.with(|user| user.borrow().clone())
        });
        yield_now();
        assert!(!run_info().contains("USER"));
        let report = Report::new().stacks(false).locals(true).to_string();
        assert!(report.contains("locals: {\"USER\"}") || report.contains("USER"), "{report}");
        event.set();
        assert_eq!(parked.join().unwrap(), "ada");
    });
}

#[test]
fn time_parked_and_stack_used_are_told() {
    in_time(|| {
        let parked = Builder::new().stack_size(64 * 1024).spawn(|| sleep(FOREVER)).unwrap();
        sleep(Duration::from_millis(30));
        let infos = greenlets(false);
        let info = infos.iter().find(|info| info.id == parked.id()).unwrap();
        assert!(info.since.unwrap() >= Duration::from_millis(20), "{info:?}");
        assert!(info.stack_used.unwrap() > 0 && info.stack_size == 64 * 1024);
        assert!(info.trace.is_none());
        assert!(info.spawned_at.unwrap().file().ends_with("inspect.rs"));
        parked.kill().unwrap();
    });
}

#[test]
fn a_report_is_bounded_and_says_what_it_leaves_out() {
    in_time(|| {
        let many: Vec<_> = (0..20).map(|_| spawn(|| sleep(FOREVER))).collect();
        yield_now();
        let report = Report::new().stacks(false).limit(5).to_string();
        assert_eq!(report.lines().count(), 6);
        assert!(report.ends_with("and 16 more\n"), "{report}");
        greenlet::kill_all(&many, None).unwrap();
    });
}

#[test]
fn a_loop_exit_tells_in_detail_where_each_stands() {
    in_time(|| {
        let stuck = spawn(|| Event::new().wait());
        let Err(WaitError::LoopExit(exit)) = Event::new().wait() else { panic!("somebody could wake it") };
        let (short, long) = (format!("{exit}"), format!("{exit:#}"));
        assert!(!short.contains("inspect.rs:1") || short.lines().count() == 3, "{short}");
        assert!(long.contains("Event::wait"), "{long}");
        assert_eq!(format!("{exit:?}"), long);
        stuck.kill().unwrap();
    });
}
