//! runtime

mod stack;
