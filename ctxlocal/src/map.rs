//! The values of one green thread: where they are kept, how maps change places.
//!
//! The current map lies in a thread-local without destructor, so that [`swap`] is a few moves. Code in here takes
//! the map out of its place, works on it and puts it back (`with_current`); *no user code may run in between*, which
//! is why initialisers and destructors are always called by those who hold nothing.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;

use crate::ending::{Clear, Entered, Finish};
use crate::key::AccessError;

/// The values of one green thread (or of one OS thread, or of one [`scope`]), or of several that share them.
///
/// As large as a pointer; an empty one that nobody shares owns no memory. A runtime makes one for each green thread,
/// in one of [three ways](crate#what-a-new-green-thread-begins-with), keeps it in the green thread's record and calls
/// [`swap`] when it switches to the green thread and again when it switches away. Dropping a map drops its values,
/// unless others share them, in the order told in the [crate's documentation](crate#when-values-are-dropped), on the
/// stack of whoever drops it. A runtime that wants them dropped on the green thread's own stack, where a destructor
/// may block, calls [`finish`] there as the last thing.
#[derive(Default)]
pub struct Map(pub(crate) Option<Rc<RefCell<Values>>>);

impl Map {
    /// An empty map. Allocates nothing.
    pub const fn new() -> Map {
        Map(None)
    }

    /// A second hold on the values of the current map: what is set, replaced or cleared through one is so for all who
    /// hold them. They are dropped when the last one lets go.
    ///
    /// ```
    /// use std::cell::Cell;
    /// ctxlocal::ctxlocal! { static N: Cell<i32> = Cell::new(0); }
    ///
    /// N.set(1);
    /// let mut green = ctxlocal::Map::shared();
    /// ctxlocal::swap(&mut green);
    /// assert_eq!(N.replace(2), 1);
    /// ctxlocal::swap(&mut green);
    /// assert_eq!(N.get(), 2);
    /// ```
    pub fn shared() -> Map {
        with_current(|map| Map(Some(Rc::clone(map.make()))))
    }

    /// A map with clones of those values of the current map that were declared `copied` (see
    /// [`ctxlocal!`](crate::ctxlocal!)) or set by [`dynamic::set_copied`](crate::dynamic::set_copied), in their
    /// order. From then on the two have nothing to do with each other. Without such values it allocates nothing.
    ///
    /// # Panics
    /// If cloning a value panics: a `RefCell` that is mutably borrowed at that moment does.
    ///
    /// ```
    /// use std::cell::{Cell, RefCell};
    /// ctxlocal::ctxlocal! {
    ///     copied static USER: RefCell<String> = RefCell::default();
    ///     static DEPTH: Cell<u32> = Cell::new(0);
    /// }
    ///
    /// USER.set("ann".to_owned());
    /// DEPTH.set(3);
    /// let mut green = ctxlocal::Map::copied();
    /// ctxlocal::swap(&mut green);
    /// assert_eq!((USER.replace("bob".to_owned()), DEPTH.get()), ("ann".to_owned(), 0));
    /// ctxlocal::swap(&mut green);
    /// assert_eq!(USER.take(), "ann");
    /// ```
    pub fn copied() -> Map {
        // What is to be cloned is noted first: clone is the user's code and may itself use locals.
        let originals: Vec<_> = with_current(|map| {
            let copied = |slot: &Slot| Some((slot.name.clone(), slot.name.copy()?, slot.value.clone()?));
            map.values().map_or_else(Vec::new, |values| values.slots.iter().filter_map(copied).collect())
        });
        // Into a map from the start, so that what has been cloned goes by the rules if a later clone panics.
        let mut copy = Map::new();
        for (name, clone, original) in originals {
            if let Some(value) = clone(&*original) {
                copy.make().borrow_mut().slots.push(Slot { name, value: Some(value), generation: 0 });
            }
        }
        copy
    }

    /// Whether there is no value in this map.
    pub fn is_empty(&self) -> bool {
        self.values().is_none_or(|values| values.slots.is_empty())
    }

    /// No borrow of a map's values is held while user code runs, so that none is in the way of another.
    #[inline]
    fn values(&self) -> Option<Ref<'_, Values>> {
        self.0.as_ref().map(|values| values.borrow())
    }

    fn make(&mut self) -> &Rc<RefCell<Values>> {
        self.0.get_or_insert_with(|| {
            // An error says that the thread's end is past. A green thread's map is still dropped by its runtime.
            let _ = THREAD_END.try_with(|_| ());
            Rc::default()
        })
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|values| Rc::strong_count(values) > 1)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.is_shared() || self.is_empty() {
            return;
        }
        let _outer = Entered::new(mem::take(self));
    }
}

impl fmt::Debug for Map {
    /// The names of the values, in the order in which they came to be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values();
        let slots = values.as_ref().map_or(&[][..], |values| &values.slots);
        f.debug_set().entries(slots.iter().map(|slot| slot.name.as_str())).finish()
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
/// `f` may switch to other green threads meanwhile: the scope belongs to the green thread that entered it. Values that
/// a green thread spawned by `f` [shares](Map::shared) go with the last of them.
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

/// Drops the values of the current map, last come first (see [the rules](crate#when-values-are-dropped)), for all who
/// share it. Values can be made again afterwards.
pub fn clear() {
    Clear.run();
}

/// Lets go of the current map: drops its values as [`clear`] does, unless others share it. An empty one is current then.
///
/// A runtime calls this at the end of a green thread, on its own stack.
pub fn finish() {
    Finish.run();
}

/// What identifies a value within a map.
#[derive(Clone)]
pub(crate) enum Name {
    /// Declared by `ctxlocal!`; the address is the identity, the text is for people.
    Key(&'static KeyId),
    /// Given while the program runs; with the name of the value's type, for people.
    Dynamic { name: Cow<'static, str>, type_name: &'static str, copy: Option<CopyFn> },
}

/// One of these lies in each key; not empty, so that each has an address of its own.
pub(crate) struct KeyId {
    pub(crate) name: &'static str,
    pub(crate) copy: Option<CopyFn>,
}

/// Clones a value for [`Map::copied`].
pub(crate) type CopyFn = fn(&dyn Any) -> Option<Rc<dyn Any>>;

pub(crate) fn copy<T: Clone + 'static>(value: &dyn Any) -> Option<Rc<dyn Any>> {
    Some(Rc::new(value.downcast_ref::<T>()?.clone()))
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Name::Key(id) => id.name,
            Name::Dynamic { name, .. } => name,
        }
    }

    fn copy(&self) -> Option<CopyFn> {
        match self {
            Name::Key(id) => id.copy,
            Name::Dynamic { copy, .. } => *copy,
        }
    }

    fn is_dynamic(&self, wanted: &str) -> bool {
        matches!(self, Name::Dynamic { name, .. } if name == wanted)
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
        let Some(values) = map.values() else { return Found::Absent };
        for slot in &values.slots {
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
            if let Some(values) = &map.0 {
                let marks = |slot: &Slot| slot.value.is_none() && slot.name.is_key(self.0);
                values.borrow_mut().slots.retain(|slot| !marks(slot));
            }
        });
    }
}

/// Adds a value to the current map, as its latest.
pub(crate) fn insert(name: Name, value: Option<Rc<dyn Any>>) -> Result<(), AccessError> {
    with_current(|map| {
        let mut values = map.make().borrow_mut();
        let generation = values.generation;
        if generation > LAST_GENERATION {
            return Err(AccessError::ended(name.as_str()));
        }
        values.slots.push(Slot { name, value, generation });
        Ok(())
    })
}

/// Makes `value` the key's value in the current map, in the place of the one that is there or as the latest; gives that
/// one back.
pub(crate) fn replace(key: &'static KeyId, value: Rc<dyn Any>) -> Result<Option<Rc<dyn Any>>, AccessError> {
    let there = with_current(|map| {
        let mut values = map.0.as_ref()?.borrow_mut();
        let slot = values.slots.iter_mut().find(|slot| slot.name.is_key(key))?;
        match &mut slot.value {
            None => Some(Err(AccessError::recursive(key.name))),
            Some(stored) => Some(Ok(mem::replace(stored, value.clone()))),
        }
    });
    match there {
        Some(result) => result.map(Some),
        None => insert(Name::Key(key), Some(value)).map(|()| None),
    }
}

/// Takes the key's value out of the current map; the caller drops it.
pub(crate) fn remove_key(key: &'static KeyId) -> Option<Rc<dyn Any>> {
    with_current(|map| {
        let slots = &mut map.0.as_ref()?.borrow_mut().slots;
        let at = slots.iter().position(|slot| slot.value.is_some() && slot.name.is_key(key))?;
        slots.remove(at).value
    })
}

/// Looks for a dynamic value in the current map; gives it with the name of its type.
pub(crate) fn find_dynamic(wanted: &str) -> Option<(Rc<dyn Any>, &'static str)> {
    with_current(|map| {
        map.values()?.slots.iter().find_map(|slot| match (&slot.name, &slot.value) {
            (Name::Dynamic { name, type_name, .. }, Some(value)) if name == wanted => {
                Some((value.clone(), *type_name))
            }
            _ => None,
        })
    })
}

/// Takes a dynamic value out of the current map; the caller drops it.
pub(crate) fn remove_dynamic(name: &str) -> Option<Rc<dyn Any>> {
    with_current(|map| {
        let slots = &mut map.0.as_ref()?.borrow_mut().slots;
        let at = slots.iter().position(|slot| slot.name.is_dynamic(name))?;
        slots.remove(at).value
    })
}

/// The names of the dynamic values in the current map, oldest first.
pub(crate) fn dynamic_names() -> Vec<String> {
    with_current(|map| {
        let dynamic = |slot: &Slot| match &slot.name {
            Name::Dynamic { name, .. } => Some(name.to_string()),
            Name::Key(_) => None,
        };
        map.values().map_or_else(Vec::new, |values| values.slots.iter().filter_map(dynamic).collect())
    })
}

/// How often a destructor may bring values back: the generations 1 to 4, as POSIX has at least four rounds of
/// destructors for a thread's keys (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const LAST_GENERATION: u8 = 4;

/// What a map that is not empty, or is shared, holds. The slots stand in the order in which the values came to be.
#[derive(Default)]
pub(crate) struct Values {
    pub(crate) slots: Vec<Slot>,
    /// 0, or while a value is dropped by `clear` one more than that value's own generation.
    pub(crate) generation: u8,
}

pub(crate) struct Slot {
    name: Name,
    /// `None` while the initialiser runs.
    pub(crate) value: Option<Rc<dyn Any>>,
    pub(crate) generation: u8,
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
pub(crate) fn with_current<R>(f: impl FnOnce(&mut Map) -> R) -> R {
    let mut map = replace_current(Map::new());
    let result = f(&mut map);
    mem::forget(replace_current(map));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &'static str) {
        let name = Name::Dynamic { name: name.into(), type_name: "i32", copy: None };
        insert(name, Some(Rc::new(1))).unwrap();
    }

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
            set("a");
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
    fn a_copy_of_nothing_makes_no_map() {
        scope(|| {
            assert!(Map::copied().0.is_none());
            with_current(|map| assert!(map.0.is_none()));
            set("a");
            assert!(Map::copied().0.is_none(), "not declared to be copied");
        });
    }

    #[test]
    fn debug_lists_names_in_order() {
        let mut map = Map::new();
        swap(&mut map);
        set("b");
        set("a");
        swap(&mut map);
        assert_eq!(format!("{map:?}"), r#"{"b", "a"}"#);
        assert!(!map.is_empty());
    }
}
