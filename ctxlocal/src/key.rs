//! Keys: values declared when the program is written.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::map::{self, Found, KeyId, Name};

/// Declares values of which each green thread has its own: `static NAME: Type = initialiser;`, as many as you like,
/// with attributes and visibility as for a `static`. `NAME` is then a [`LocalKey<Type>`].
///
/// The initialiser runs at the first use in each map. It may use other keys, but not its own. With `copied` before
/// `static`, which needs `Type: Clone`, green threads that are spawned with [a copy of the map](crate::Map::copied)
/// begin with a clone of the value if there is one.
///
/// ```
/// use std::cell::{Cell, OnceCell, RefCell};
///
/// ctxlocal::ctxlocal! {
///     /// Documentation as for any item.
///     pub static TRACE: RefCell<Vec<String>> = RefCell::default();
///     static LEVEL: Cell<u8> = Cell::new(1);
///     pub(crate) copied static TENANT: OnceCell<u64> = OnceCell::new();
/// }
///
/// TRACE.with_borrow_mut(|lines| lines.push(format!("level {}", LEVEL.get())));
/// assert_eq!(TRACE.take(), ["level 1"]);
/// assert_eq!(TENANT.with(|id| *id.get_or_init(|| 42)), 42);
/// ```
#[macro_export]
macro_rules! ctxlocal {
    () => {};
    ($(#[$attr:meta])* $vis:vis copied static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::ctxlocal!(@key [$(#[$attr])* $vis] $name, $type, $init, new_copied);
        $($crate::ctxlocal! { $($rest)* })?
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::ctxlocal!(@key [$(#[$attr])* $vis] $name, $type, $init, new);
        $($crate::ctxlocal! { $($rest)* })?
    };
    (@key [$($before:tt)*] $name:ident, $type:ty, $init:expr, $new:ident) => {
        $($before)* static $name: $crate::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::LocalKey::$new(concat!(module_path!(), "::", stringify!($name)), init)
        };
    };
}

/// A value that each green thread has its own of; made by [`ctxlocal!`]. The methods are those of
/// [`std::thread::LocalKey`].
///
/// A look-up walks the values of the current map, which is fast for the tens of them that programs have.
pub struct LocalKey<T: 'static> {
    id: KeyId,
    init: fn() -> T,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(name: &'static str, init: fn() -> T) -> LocalKey<T> {
        LocalKey { id: KeyId { name, copy: None }, init }
    }

    #[doc(hidden)]
    pub const fn new_copied(name: &'static str, init: fn() -> T) -> LocalKey<T>
    where
        T: Clone,
    {
        LocalKey { id: KeyId { name, copy: Some(map::copy::<T>) }, init }
    }

    /// The path it was declared under, for messages: `crate::module::NAME`.
    pub fn name(&self) -> &'static str {
        self.id.name
    }

    /// Calls `f` with the current map's value, which is initialised first if there is none yet.
    ///
    /// The value stays whole until `f` returns, even if `f` clears the map or switches to other green threads.
    ///
    /// # Panics
    ///
    /// If [`try_with`](Self::try_with) would give an error.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.value() {
            Ok(value) => f(&value),
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`with`](Self::with), with an error where that panics.
    ///
    /// # Errors
    ///
    /// [`AccessError::Recursive`] if this value's own initialiser asks for it, [`AccessError::Ended`] if it would have
    /// to be initialised when that isn't possible any more.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        Ok(f(&*self.value()?))
    }

    /// Calls `f` with the current map's value if there is one. The initialiser does not run, nothing is allocated: for
    /// those who only look whether somebody has left something.
    ///
    /// ```
    /// use std::cell::Cell;
    /// ctxlocal::ctxlocal! { static DEPTH: Cell<u32> = Cell::new(1); }
    ///
    /// assert_eq!(DEPTH.peek(Cell::get), None);
    /// DEPTH.set(2);
    /// assert_eq!(DEPTH.peek(Cell::get), Some(2));
    /// ```
    #[inline]
    pub fn peek<R>(&'static self, f: impl FnOnce(&T) -> R) -> Option<R> {
        match map::find_key(&self.id) {
            Found::Value(value) => Some(f(&value)),
            Found::Initialising | Found::Absent => None,
        }
    }

    /// Runs `f` with `value` as the current map's, and puts the one from before back, or none if there was none, whether
    /// `f` returns or unwinds. Neither initialiser runs. Nests, also with itself.
    ///
    /// Meanwhile the value from before is out of the map: what clears the map doesn't drop it, and a copy of the map has
    /// a clone of `value`. It is back in its place when `value` is dropped. In a map that green threads share, all of
    /// them see `value`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// ctxlocal::ctxlocal! { static DEADLINE: Cell<u32> = Cell::new(30); }
    ///
    /// let inside = DEADLINE.with_value(Cell::new(5), || DEADLINE.get());
    /// assert_eq!((inside, DEADLINE.get()), (5, 30));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with); `f` isn't called then.
    pub fn with_value<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        let value: Rc<dyn Any> = Rc::new(value);
        let _restore = match map::replace(&self.id, value) {
            Ok(before) => PutBack { key: &self.id, before },
            Err(error) => panic!("{error}"),
        };
        f()
    }

    #[inline]
    fn value(&'static self) -> Result<Rc<T>, AccessError> {
        match map::find_key(&self.id) {
            Found::Value(value) => Ok(value),
            Found::Initialising => Err(AccessError::recursive(self.id.name)),
            Found::Absent => self.init(),
        }
    }

    #[cold]
    fn init(&'static self) -> Result<Rc<T>, AccessError> {
        let mark = map::begin_init(&self.id)?;
        let value = Rc::new((self.init)());
        mark.store(Rc::clone(&value) as Rc<dyn Any>)?;
        Ok(value)
    }

    /// Calls `update` if there is a value, or else makes `first()` the value without running the initialiser.
    fn update_or_insert<R>(
        &'static self,
        argument: R,
        update: impl FnOnce(&T, R),
        first: impl FnOnce(R) -> T,
    ) {
        let error = match map::find_key::<T>(&self.id) {
            Found::Value(value) => return update(&value, argument),
            Found::Initialising => AccessError::recursive(self.id.name),
            Found::Absent => match map::insert(Name::Key(&self.id), Some(Rc::new(first(argument)))) {
                Ok(()) => return,
                Err(error) => error,
            },
        };
        panic!("{error}");
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value; the initialiser doesn't run if there was none.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn set(&'static self, value: T) {
        self.update_or_insert(value, Cell::set, Cell::new);
    }

    /// A copy of the value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the type's default.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and gives the one from before (the initialiser's, if there was none).
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the borrowed value. A borrow held while `f` switches to other green threads is harmless: they
    /// have values of their own.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if the value is mutably borrowed.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the mutably borrowed value.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if the value is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value; the initialiser doesn't run if there was none.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if the value is borrowed.
    pub fn set(&'static self, value: T) {
        self.update_or_insert(value, |cell, value| drop(cell.replace(value)), RefCell::new);
    }

    /// Takes the value and leaves the type's default.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if the value is borrowed.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and gives the one from before (the initialiser's, if there was none).
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with), and if the value is borrowed.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.id.name)
    }
}

/// The end of [`LocalKey::with_value`].
struct PutBack {
    key: &'static KeyId,
    before: Option<Rc<dyn Any>>,
}

impl Drop for PutBack {
    fn drop(&mut self) {
        let inner = match self.before.take() {
            // Where the map takes no more values, the one from before goes too.
            Some(before) => map::replace(self.key, before).ok().flatten(),
            None => map::remove_key(self.key),
        };
        drop(inner);
    }
}

/// Why a value can't be had: see [`LocalKey::try_with`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// The value's initialiser, which is still running, asked for the value. (Or, in a map that is shared, it has switched to
    /// another green thread, which did.)
    Recursive {
        /// The key's name.
        name: String,
    },
    /// The value is gone and can't be made again: the map's values are being dropped, and destructors have brought
    /// values back four times over.
    Ended {
        /// The name of the key or of the dynamic value.
        name: String,
    },
}

impl AccessError {
    #[cold]
    pub(crate) fn recursive(name: &str) -> AccessError {
        AccessError::Recursive { name: name.into() }
    }

    #[cold]
    pub(crate) fn ended(name: &str) -> AccessError {
        AccessError::Ended { name: name.into() }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessError::Recursive { name } => {
                write!(
                    f,
                    "the initialiser of `{name}` asks for `{name}` itself; make the value without using it"
                )
            }
            AccessError::Ended { name } => write!(
                f,
                "`{name}` can't be made any more: the destructors of green-thread-local values keep bringing values back; \
                 use try_with in them"
            ),
        }
    }
}

impl std::error::Error for AccessError {}
