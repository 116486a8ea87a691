//! The values of one green thread: where they are kept, how maps change places, in which order values go.
//!
//! The current map lies in a thread-local without destructor, so that [`swap`] is a few moves. Code in here takes
//! the map out of its place, works on it and puts it back (`with_current`); *no user code may run in between*, which
//! is why initialisers and destructors are always called by those who hold nothing.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;

use crate::key::AccessError;

/// The values of one green thread (or of one OS thread, or of one [`scope`]).
///
/// As large as a pointer; an empty one owns no memory. A runtime keeps one in the record of each green thread and
/// calls [`swap`] when it switches to the green thread and again when it switches away. Dropping a map drops its
/// values, in the order told in the [crate's documentation](crate#when-values-are-dropped), on the stack of whoever
/// drops it. A runtime that wants them dropped on the green thread's own stack, where a destructor may block, calls
/// [`clear`] there as the last thing.
#[derive(Default)]
pub struct Map(Option<Box<Values>>);

impl Map {
    /// An empty map. Allocates nothing.
    pub const fn new() -> Map {
        Map(None)
    }

    /// Whether there is no value in this map.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|values| values.slots.is_empty())
    }

    fn slots(&self) -> &[Slot] {
        self.0.as_ref().map_or(&[], |values| &values.slots)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        let _outer = Entered::new(mem::take(self));
    }
}

impl fmt::Debug for Map {
    /// The names of the values, in the order in which they came to be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.slots().iter().map(|slot| slot.name.as_str())).finish()
    }
}

/// Exchanges the current map of this OS thread with `*map`. Runs no user code, allocates nothing, costs a few moves.
///
/// Meant for runtimes, which call it at every switch: once to put a green thread's map in place, once to take it
/// back. Whoever calls it in between must leave behind what was there, or values end up with another green thread.
///
/// ```
/// use std::cell::Cell;
/// ctxlocal::ctxlocal! { static N: Cell<i32> = Cell::new(0); }
///
/// let mut green = ctxlocal::Map::new();
/// N.set(1);
/// ctxlocal::swap(&mut green); // switch to the green thread …
/// assert_eq!(N.get(), 0);
/// N.set(2);
/// ctxlocal::swap(&mut green); // … and back
/// assert_eq!(N.get(), 1);
/// # ctxlocal::swap(&mut green);
/// # assert_eq!(N.get(), 2);
/// # ctxlocal::swap(&mut green);
/// ```
#[inline]
pub fn swap(map: &mut Map) {
    let current = replace_current(mem::take(map));
    // what is overwritten is the empty map that `take` left: not running its destructor keeps this path free of calls
    mem::forget(mem::replace(map, current));
}

/// Runs `f` on a fresh, empty map, drops the values left in it and puts the map from before back in place, whether
/// `f` returns or unwinds. Scopes nest. Entering and leaving an empty one allocates nothing.
///
/// `f` may switch to other green threads meanwhile: the scope belongs to the green thread that entered it.
///
/// ```
/// use std::cell::Cell;
/// ctxlocal::ctxlocal! { static DEPTH: Cell<u32> = Cell::new(0); }
///
/// DEPTH.set(7);
/// let inside = ctxlocal::scope(|| {
///     DEPTH.set(DEPTH.get() + 1);
///     DEPTH.get()
/// });
/// assert_eq!((inside, DEPTH.get()), (1, 7));
/// ```
pub fn scope<R>(f: impl FnOnce() -> R) -> R {
    // The map from before lies in this frame, which is to say on the stack of the green thread that called: the
    // runtime sees only the inner one and swaps it out and in. The map current at the end is again the inner one.
    let _outer = Entered::new(Map::new());
    f()
}

/// Drops the values of the current map, last come first (see [the rules](crate#when-values-are-dropped)).
///
/// A runtime calls this at the end of a green thread, on its own stack. Values can be made again afterwards.
pub fn clear() {
    Clear.run();
}

/// What identifies a value within a map.
pub(crate) enum Name {
    /// Declared by `ctxlocal!`; the address is the identity, the text is for people.
    Key(&'static KeyId),
    /// Given while the program runs; with the name of the value's type, for people.
    Dynamic(Cow<'static, str>, &'static str),
}

/// One of these lies in each key; not empty, so that each has an address of its own.
pub(crate) struct KeyId {
    pub(crate) name: &'static str,
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Name::Key(id) => id.name,
            Name::Dynamic(name, _) => name,
        }
    }

    fn is_key(&self, key: &'static KeyId) -> bool {
        matches!(self, Name::Key(id) if std::ptr::eq(*id, key))
    }
}

/// What a map knows of a key.
pub(crate) enum Found<T> {
    Absent,
    /// Its initialiser runs at this moment.
    Initialising,
    Value(T),
}

/// Looks for the value of `key` in the current map. The `Rc` keeps it whole whatever happens to the map.
#[inline]
pub(crate) fn find_key<T: 'static>(key: &'static KeyId) -> Found<Rc<T>> {
    with_current(|map| {
        for slot in map.slots() {
            if slot.name.is_key(key) {
                return match &slot.value {
                    None => Found::Initialising,
                    Some(value) => match Rc::clone(value).downcast::<T>() {
                        Ok(value) => Found::Value(value),
                        // two constants (not statics) which the compiler laid into one place
                        Err(_) => continue,
                    },
                };
            }
        }
        Found::Absent
    })
}

/// Marks `key` as being initialised in the current map until the mark is dropped or a value stored.
pub(crate) fn begin_init(key: &'static KeyId) -> Result<InitMark, AccessError> {
    insert(Name::Key(key), None)?;
    Ok(InitMark(key))
}

/// See [`begin_init`].
pub(crate) struct InitMark(&'static KeyId);

impl InitMark {
    /// Stores the value as the latest of the current map.
    pub(crate) fn store(self, value: Rc<dyn Any>) -> Result<(), AccessError> {
        let key = self.0;
        drop(self); // those that the initialiser used came before: the value goes behind them
        insert(Name::Key(key), Some(value))
    }
}

impl Drop for InitMark {
    fn drop(&mut self) {
        with_current(|map| {
            if let Some(values) = &mut map.0 {
                values.slots.retain(|slot| slot.value.is_some() || !slot.name.is_key(self.0));
            }
        });
    }
}

/// Adds a value to the current map, as its latest.
pub(crate) fn insert(name: Name, value: Option<Rc<dyn Any>>) -> Result<(), AccessError> {
    with_current(|map| {
        let values = map.0.get_or_insert_with(|| {
            // An error says that the thread's end is past. A green thread's map is still dropped by its runtime.
            let _ = THREAD_END.try_with(|_| ());
            Box::default()
        });
        if values.generation > LAST_GENERATION {
            return Err(AccessError::ended(name.as_str()));
        }
        values.slots.push(Slot { name, value, generation: values.generation });
        Ok(())
    })
}

/// Looks for a dynamic value in the current map; gives it with the name of its type.
pub(crate) fn find_dynamic(wanted: &str) -> Option<(Rc<dyn Any>, &'static str)> {
    with_current(|map| {
        map.slots().iter().find_map(|slot| match (&slot.name, &slot.value) {
            (Name::Dynamic(name, type_name), Some(value)) if name == wanted => {
                Some((value.clone(), *type_name))
            }
            _ => None,
        })
    })
}

/// Takes a dynamic value out of the current map; the caller drops it.
pub(crate) fn remove_dynamic(name: &str) -> Option<Rc<dyn Any>> {
    with_current(|map| {
        let slots = &mut map.0.as_mut()?.slots;
        let at =
            slots.iter().position(|slot| matches!(&slot.name, Name::Dynamic(known, _) if known == name))?;
        slots.remove(at).value
    })
}

/// The names of the dynamic values in the current map, oldest first.
pub(crate) fn dynamic_names() -> Vec<String> {
    with_current(|map| {
        let names = map.slots().iter().filter_map(|slot| match &slot.name {
            Name::Dynamic(name, _) => Some(name.to_string()),
            Name::Key(_) => None,
        });
        names.collect()
    })
}

/// How often a destructor may bring values back: the generations 1 to 4, as POSIX has at least four rounds of
/// destructors for a thread's keys (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const LAST_GENERATION: u8 = 4;

/// What a map that is not empty owns. The slots stand in the order in which the values came to be.
#[derive(Default)]
struct Values {
    slots: Vec<Slot>,
    /// 0, or while a value is dropped by `clear` one more than that value's own generation.
    generation: u8,
}

struct Slot {
    name: Name,
    /// `None` while the initialiser runs.
    value: Option<Rc<dyn Any>>,
    generation: u8,
}

thread_local! {
    // ManuallyDrop, so that std neither registers a destructor nor looks at a state on each access
    static CURRENT: Cell<ManuallyDrop<Map>> = const { Cell::new(ManuallyDrop::new(Map::new())) };

    // touched when a map gets its first value; its destructor stands in for CURRENT's
    static THREAD_END: Clear = const { Clear };
}

#[inline]
fn replace_current(map: Map) -> Map {
    ManuallyDrop::into_inner(CURRENT.replace(ManuallyDrop::new(map)))
}

/// Calls `f` with the current map. `f` must not run user code: while it runs the current map is an empty one.
#[inline]
fn with_current<R>(f: impl FnOnce(&mut Map) -> R) -> R {
    let mut map = replace_current(Map::new());
    let result = f(&mut map);
    mem::forget(replace_current(map));
    result
}

/// Puts a map in place; when dropped clears what is current then and puts the map from before back.
struct Entered {
    // fields are dropped in this order, the second even if the first unwinds
    _clear: Clear,
    _restore: Restore,
}

impl Entered {
    fn new(mut map: Map) -> Entered {
        swap(&mut map);
        Entered { _clear: Clear, _restore: Restore(map) }
    }
}

struct Restore(Map);

impl Drop for Restore {
    fn drop(&mut self) {
        swap(&mut self.0);
    }
}

/// Drops the values of the map that is current when it is dropped itself.
struct Clear;

impl Clear {
    fn run(self) {}
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
        let values = map.0.as_mut()?;
        let Some(slot) = values.slots.pop() else {
            if values.generation == 0 {
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
            if let Some(values) = &mut map.0 {
                values.generation = self.0;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_as_large_as_a_pointer() {
        assert_eq!(size_of::<Map>(), size_of::<*const ()>());
    }

    #[test]
    fn the_current_map_needs_no_destructor() {
        assert!(!mem::needs_drop::<Cell<ManuallyDrop<Map>>>());
    }

    #[test]
    fn clear_gives_the_memory_back() {
        scope(|| {
            insert(Name::Dynamic("a".into(), "i32"), Some(Rc::new(1))).unwrap();
            clear();
            with_current(|map| assert!(map.0.is_none()));
        });
    }

    #[test]
    fn an_empty_scope_makes_no_map() {
        scope(|| {
            with_current(|map| assert!(map.0.is_none()));
            assert!(find_dynamic("a").is_none());
            with_current(|map| assert!(map.0.is_none()));
        });
    }

    #[test]
    fn debug_lists_names_in_order() {
        let mut map = Map::new();
        swap(&mut map);
        insert(Name::Dynamic("b".into(), "i32"), Some(Rc::new(1))).unwrap();
        insert(Name::Dynamic("a".into(), "i32"), Some(Rc::new(1))).unwrap();
        swap(&mut map);
        assert_eq!(format!("{map:?}"), r#"{"b", "a"}"#);
        assert!(!map.is_empty());
    }
}
