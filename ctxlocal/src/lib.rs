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
//! # Ways to use it
//!
//! - [`ctxlocal!`] declares values known when the program is written: a type and an initialiser, run on first use
//!   in each map.
//! - [`LocalKey::with_value`] replaces one of them for the time of a call.
//! - [`dynamic`] keeps values under names that are only known while the program runs, in the manner of Werkzeug's
//!   `Local`.
//! - [`scope`] runs a closure on a map of its own. A server that serves many requests on one green thread enters
//!   one for each, or values leak from one request to the next.
//!
//! # What a new green thread begins with
//!
//! | The runtime makes its map by | It sees |
//! |------------------------------|---------|
//! | [`Map::new`], the default    | nothing of its parent's: each value is initialised afresh |
//! | [`Map::shared`]              | its parent's values, and each sees what the other does to them |
//! | [`Map::copied`]              | clones of its parent's values that were declared `copied`, as of its spawning (Python's `contextvars`) |
//!
//! With `greenlet` that is `Builder::locals`.
//!
//! # Werkzeug's `Local`, `LocalStack` and `LocalProxy`
//!
//! | Werkzeug | Here |
//! |----------|------|
//! | `local = Local(); local.user = "ann"` | `dynamic::set("user", "ann")`, or a declared key |
//! | `stack = LocalStack()`, `push`, `pop`, `top` | a key that holds a `Vec` |
//! | `request = LocalProxy(lambda: stack.top.request)` | a function that looks, [`LocalKey::with`] in it |
//! | `ContextVar.set` and `reset(token)` | [`LocalKey::with_value`] |
//! | `LocalManager.middleware`, `release_local` | [`scope`] around each request, [`clear`] |
//!
//! ```
//! use std::cell::RefCell;
//!
//! #[derive(Clone)]
//! struct Request { path: String }
//!
//! ctxlocal::ctxlocal! {
//!     // request_stack = LocalStack()
//!     static REQUESTS: RefCell<Vec<Request>> = RefCell::default();
//! }
//!
//! /// request = LocalProxy(lambda: request_stack.top)
//! fn with_request<R>(f: impl FnOnce(&Request) -> R) -> R {
//!     REQUESTS.with_borrow(|stack| f(stack.last().expect("outside of a request")))
//! }
//!
//! /// What a framework does around each call of a view.
//! fn handle(path: &str, view: fn() -> String) -> String {
//!     ctxlocal::scope(|| {
//!         REQUESTS.with_borrow_mut(|stack| stack.push(Request { path: path.to_owned() }));
//!         view()
//!     })
//! }
//!
//! /// Was handed nothing, and knows nevertheless for whom it works.
//! fn view() -> String {
//!     with_request(|request| format!("you asked for {}", request.path))
//! }
//!
//! assert_eq!(handle("/apples", view), "you asked for /apples");
//! assert!(REQUESTS.with_borrow(Vec::is_empty));
//! ```
//!
//! # When values are dropped
//!
//! A map's values, typed and dynamic alike, are dropped **in the reverse order in which they came to be**: at the end of
//! a [`scope`], by [`clear`], at a green thread's end ([`finish`]), when a [`Map`] is dropped, and for the thread's own
//! map when the thread ends. Values that are shared go, by the same order, when the last who holds them lets go. (A
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
mod ending;
mod key;
mod map;

pub use key::{AccessError, LocalKey};
pub use map::{Map, clear, finish, scope, swap};
