//! Waiting for the first of several things and taking it: the parts of [`select!`](crate::select!) beside the macro.
//!
//! What may not enter here: waiting lists and tables of descriptors. They are in `sync`, `greenlet` and `net`; here one
//! greenlet is put into several of them and parked once.

mod arms;
mod list;
mod macros;

pub use arms::{After, Ready, after, at, readable, writable};
#[doc(hidden)]
pub use list::{Arm, Either, First, attempt, first};
