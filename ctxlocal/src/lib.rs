//! Values that belong to the running green thread, or to the OS thread outside one.
//!
//! This crate knows nothing of any runtime. It keeps one [`Map`] of values current on each OS thread and lets a
//! runtime exchange it at every switch ([`swap`]); no I/O, no scheduling and no `unsafe` may enter it. Without a
//! runtime everything here works as ordinary thread-locals.
//!
//! ```
//! use std::cell::{Cell, RefCell};
//!
//! ctxlocal::ctxlocal! {
//!     /// Who is logged in, for whoever handles this request.
//!     static USER: RefCell<String> = RefCell::new(String::from("nobody"));
//!     static QUERIES: Cell<u32> = Cell::new(0);
//! }
//!
//! fn handle(user: &str) -> String {
//!     USER.with_borrow_mut(|name| name.replace_range(.., user));
//!     QUERIES.set(QUERIES.get() + 1);
//!     USER.with_borrow(|name| format!("{name} made {} queries", QUERIES.get()))
//! }
//!
//! // each call sees fresh values, whatever the one before left behind
//! assert_eq!(ctxlocal::scope(|| handle("ann")), "ann made 1 queries");
//! assert_eq!(ctxlocal::scope(|| handle("bob")), "bob made 1 queries");
//! assert_eq!(USER.with_borrow(|name| name.clone()), "nobody");
//! ```
//!
//! # Three ways to use it
//!
//! - [`ctxlocal!`] declares values known when the program is written: a type and an initialiser, run on first use
//!   in each map.
//! - [`dynamic`] keeps values under names that are only known while the program runs, in the manner of Werkzeug's
//!   `Local`.
//! - [`scope`] runs a closure on a map of its own. A server that serves many requests on one green thread enters
//!   one for each, or values leak from one request to the next.
//!
//! # When values are dropped
//!
//! A map's values, typed and dynamic alike, are dropped **in the reverse order in which they came to be**: at the end of
//! a [`scope`], by [`clear`], when a [`Map`] is dropped, and for the thread's own map when the thread ends. (A
//! value has come to be once its initialiser has returned. So a value whose initialiser uses another one goes
//! before it.) The rules, chosen so that destructors are ordinary code:
//!
//! - The values are dropped with their own map as the current one. A destructor may use those not dropped yet.
//! - It may use one that *is* dropped already: it is initialised afresh and dropped next. A value made so by a
//!   destructor of a value that was made so … is refused from the fifth generation on: [`LocalKey::try_with`]
//!   gives [`AccessError::Ended`], `with` panics. So dropping always comes to an end.
//! - A destructor that panics does not keep the others from running. The panic goes on after them; a second one
//!   meanwhile aborts the process, as always.
//! - A value that is in use, which is to say inside `with`, when its map is cleared, stays whole until that `with`
//!   returns and is dropped then.
//! - A destructor may switch to another green thread and come back.
//! - What destructors of ordinary thread-locals put into the thread's own map after its end stays undropped.

#![forbid(unsafe_code)]

pub mod dynamic;
mod key;
mod map;

pub use key::{AccessError, LocalKey};
pub use map::{Map, clear, scope, swap};
