//! The end of a map: who drops its values, in which order, whatever their destructors do.

use std::any::Any;
use std::mem;
use std::rc::Rc;

use crate::map::{Map, swap, with_current};

/// Puts a map in place; when dropped lets go of what is current then and puts the map from before back.
pub(crate) struct Entered {
    // fields are dropped in this order, the second even if the first unwinds
    _finish: Finish,
    _restore: Restore,
}

impl Entered {
    pub(crate) fn new(mut map: Map) -> Entered {
        swap(&mut map);
        Entered { _finish: Finish, _restore: Restore(map) }
    }
}

struct Restore(Map);

impl Drop for Restore {
    fn drop(&mut self) {
        swap(&mut self.0);
    }
}

/// Lets go of the map that is current when it is dropped itself.
pub(crate) struct Finish;

impl Finish {
    pub(crate) fn run(self) {}
}

impl Drop for Finish {
    fn drop(&mut self) {
        let shared = with_current(|map| if map.is_shared() { map.0.take() } else { None });
        if shared.is_none() {
            drop(Clear);
        }
    }
}

/// Drops the values of the map that is current when it is dropped itself.
pub(crate) struct Clear;

impl Clear {
    pub(crate) fn run(self) {}
}

impl Drop for Clear {
    fn drop(&mut self) {
        // if a value's destructor unwinds, this one goes on with the rest
        let again = AgainIfUnwinding;
        // Nothing is held while a value is dropped: its destructor may use the map, clear it, or be switched out.
        while let Some((value, before)) = pop() {
            let _reset = ResetGeneration(before);
            drop(value);
        }
        mem::forget(again);
    }
}

struct AgainIfUnwinding;

impl Drop for AgainIfUnwinding {
    fn drop(&mut self) {
        drop(Clear);
    }
}

/// Takes the latest value out of the current map and notes its generation for what its destructor makes. Gives the
/// value and the generation noted before. Frees the map's memory once it is empty and no destructor runs.
fn pop() -> Option<(Option<Rc<dyn Any>>, u8)> {
    with_current(|map| {
        let mut values = map.0.as_ref()?.borrow_mut();
        let Some(slot) = values.slots.pop() else {
            let at_rest = values.generation == 0;
            drop(values);
            if at_rest && !map.is_shared() {
                map.0 = None;
            }
            return None;
        };
        let before = mem::replace(&mut values.generation, slot.generation + 1);
        Some((slot.value, before))
    })
}

struct ResetGeneration(u8);

impl Drop for ResetGeneration {
    fn drop(&mut self) {
        with_current(|map| {
            if let Some(values) = &map.0 {
                values.borrow_mut().generation = self.0;
            }
        });
    }
}
