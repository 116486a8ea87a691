//! What the runtime logs, collected for tests that look at it.

use std::sync::{Mutex, Once, PoisonError};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on lines are kept. They are those of all tests of the process: look for a name that only one uses.
pub(crate) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("no other logger in this process");
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// Whether one of the lines is of this kind.
pub(crate) fn any(wanted: impl Fn(&str) -> bool) -> bool {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| wanted(line))
}

/// How many of the lines are of this kind.
pub(crate) fn count(wanted: impl Fn(&str) -> bool) -> usize {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|line| wanted(line)).count()
}

/// The lines in which this stands.
pub(crate) fn of(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
            "{} {}",
            record.level(),
            record.args()
        ));
    }

    fn flush(&self) {}
}
