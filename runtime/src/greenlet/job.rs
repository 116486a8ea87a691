//! What a greenlet has to do, and what came of it: the closure and the outcome share one allocation.

use std::cell::{Ref, RefCell};
use std::mem;
use std::rc::Rc;

use super::core::End;
use crate::error::Panic;
use crate::hub::Hub;
use crate::unwind::{self, Caught, Interrupt};

/// A job as its greenlet sees it.
pub(crate) trait Job {
    /// The whole life of a greenlet, from its first instruction to its last.
    fn run(self: Rc<Self>);

    /// Drops the closure of a job that will not be run.
    fn cancel(&self);
}

/// A job as those see it who wait for its value.
pub(super) trait Yields<T>: Job {
    /// Takes what there is to take.
    fn take(&self) -> Outcome<T>;

    /// The value, while nobody has taken it.
    fn value(&self) -> Option<Ref<'_, T>>;

    /// The panic, while nobody has taken it.
    fn panic(&self) -> Option<Ref<'_, Panic>>;
}

/// What has come of a job.
pub(super) enum Outcome<T> {
    /// Nothing: it has not ended, or was killed, or could not start.
    Nothing,
    Value(T),
    Panicked(Box<Panic>),
    Taken,
}

enum Stage<F, T> {
    Closure(F),
    Outcome(Outcome<T>),
}

struct Closure<F, T>(RefCell<Stage<F, T>>);

/// A job that runs `f`, for the greenlet and for the handle.
pub(super) fn job<F, T>(f: F) -> Rc<dyn Yields<T>>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Rc::new(Closure(RefCell::new(Stage::Closure(f))))
}

impl<F, T> Closure<F, T> {
    /// Puts an outcome in the place of what was there. The caller drops that: it may do anything.
    fn put(&self, outcome: Outcome<T>) -> Stage<F, T> {
        self.0.replace(Stage::Outcome(outcome))
    }
}

impl<F, T> Job for Closure<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    fn run(self: Rc<Self>) {
        let Stage::Closure(f) = self.put(Outcome::Nothing) else { return };
        let end = match unwind::catch(f) {
            Caught::Returned(value) => {
                if Rc::strong_count(&self) > 1 {
                    self.put(Outcome::Value(value));
                } else {
                    // Nobody can ask for it: it goes here, in the greenlet.
                    unwind::report(unwind::catch(|| drop(value)));
                }
                End::Returned
            }
            Caught::Panicked(panic) => {
                log::error!("{panic}");
                self.put(Outcome::Panicked(Box::new(panic)));
                End::Panicked
            }
            Caught::Interrupted(Interrupt::Kill) => End::Killed,
            Caught::Interrupted(Interrupt::Leave(_)) => End::Elapsed,
        };
        let hub = Hub::get();
        let core = hub.current_or_main();
        if end == End::Elapsed {
            log::error!("greenlet '{}' was ended by a Timeout, for it was in no `Timeout::run`", core.name());
        }
        let _shield = core.shield();
        unwind::report(unwind::catch(|| {
            ctxlocal::finish();
            // With the value, if the handle went meanwhile.
            drop(self);
        }));
        core.finish(hub, end);
    }

    fn cancel(&self) {
        drop(self.put(Outcome::Nothing));
    }
}

impl<F, T> Yields<T> for Closure<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    fn take(&self) -> Outcome<T> {
        let mut stage = self.0.borrow_mut();
        match &mut *stage {
            Stage::Closure(_) | Stage::Outcome(Outcome::Nothing) => Outcome::Nothing,
            Stage::Outcome(outcome) => mem::replace(outcome, Outcome::Taken),
        }
    }

    fn value(&self) -> Option<Ref<'_, T>> {
        Ref::filter_map(self.0.borrow(), |stage| match stage {
            Stage::Outcome(Outcome::Value(value)) => Some(value),
            _ => None,
        })
        .ok()
    }

    fn panic(&self) -> Option<Ref<'_, Panic>> {
        Ref::filter_map(self.0.borrow(), |stage| match stage {
            Stage::Outcome(Outcome::Panicked(panic)) => Some(&**panic),
            _ => None,
        })
        .ok()
    }
}
