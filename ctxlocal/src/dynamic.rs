//! Values under names that are only known while the program runs, in the manner of Werkzeug's `Local`: whatever a
//! request, a plug-in or a template wants to leave for those that come after it in the same green thread.
//!
//! They lie in the same [map](crate::Map) as the typed ones, are as private to their green thread or
//! [`scope`](crate::scope) and are dropped by the [same rules](crate#when-values-are-dropped). Values known when the
//! program is written are better declared with [`ctxlocal!`](crate::ctxlocal!): the compiler checks those.
//!
//! A look-up walks the values of the map: meant for tens of names, not for a data store.
//!
//! ```
//! use ctxlocal::dynamic;
//!
//! dynamic::set("request.id", 17_u64);
//! dynamic::set(format!("plugin.{}", "csrf"), String::from("token"));
//!
//! assert_eq!(dynamic::get::<u64>("request.id"), Ok(17));
//! assert_eq!(dynamic::with("plugin.csrf", |token: &String| token.len()), Ok(5));
//! assert_eq!(dynamic::names(), ["request.id", "plugin.csrf"]);
//!
//! let error = dynamic::get::<u32>("request.id").unwrap_err();
//! assert_eq!(error.to_string(), "the local value `request.id` was asked for as u32, but is another type: u64");
//!
//! assert!(dynamic::remove("request.id"));
//! assert!(!dynamic::contains("request.id"));
//! ```

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use crate::map::{self, Name};

/// Makes `value` the one called `name` in the current map. It counts as the map's latest, also if there was one of
/// that name before, which is dropped.
///
/// # Panics
///
/// If the map takes no more values, see [`AccessError::Ended`](crate::AccessError::Ended).
pub fn set<T: 'static>(name: impl Into<Cow<'static, str>>, value: T) {
    put(name.into(), value, None);
}

/// As [`set`], and green threads that are spawned with [a copy of the map](crate::Map::copied) begin with a clone of the
/// value.
///
/// # Panics
///
/// As [`set`].
pub fn set_copied<T: Clone + 'static>(name: impl Into<Cow<'static, str>>, value: T) {
    put(name.into(), value, Some(map::copy::<T>));
}

fn put<T: 'static>(name: Cow<'static, str>, value: T, copy: Option<map::CopyFn>) {
    drop(map::remove_dynamic(&name));
    let name = Name::Dynamic { name, type_name: type_name::<T>(), copy };
    if let Err(error) = map::insert(name, Some(Rc::new(value))) {
        panic!("{error}");
    }
}

/// A copy of the value called `name`.
///
/// # Errors
///
/// [`NameError`] if there is none, or it isn't a `T`.
pub fn get<T: Clone + 'static>(name: &str) -> Result<T, NameError> {
    with(name, T::clone)
}

/// Calls `f` with the value called `name`, which stays whole until `f` returns, even if it is replaced, removed or
/// its map cleared meanwhile.
///
/// # Errors
///
/// [`NameError`] if there is none, or it isn't a `T`; `f` isn't called then.
pub fn with<T: 'static, R>(name: &str, f: impl FnOnce(&T) -> R) -> Result<R, NameError> {
    let Some((value, stored)) = map::find_dynamic(name) else {
        return Err(NameError::Missing { name: name.into() });
    };
    match value.downcast_ref::<T>() {
        Some(value) => Ok(f(value)),
        None => Err(NameError::OtherType { name: name.into(), asked: type_name::<T>(), stored }),
    }
}

/// Drops the value called `name`; says whether there was one.
pub fn remove(name: &str) -> bool {
    map::remove_dynamic(name).is_some()
}

/// Whether the current map has a value called `name`.
pub fn contains(name: &str) -> bool {
    map::find_dynamic(name).is_some()
}

/// The names of the current map's dynamic values, oldest first.
pub fn names() -> Vec<String> {
    map::dynamic_names()
}

/// Why a dynamic value can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing of that name has been set in this green thread (or scope).
    Missing {
        /// The name asked for.
        name: String,
    },
    /// There is a value, of another type than the one asked for.
    OtherType {
        /// The name asked for.
        name: String,
        /// The type asked for.
        asked: &'static str,
        /// The type of the value.
        stored: &'static str,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Missing { name } => write!(f, "there is no local value `{name}`; set it first"),
            NameError::OtherType { name, asked, stored } => {
                write!(f, "the local value `{name}` was asked for as {asked}, but is another type: {stored}")
            }
        }
    }
}

impl std::error::Error for NameError {}
