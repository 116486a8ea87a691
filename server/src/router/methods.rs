//! One method or several.

use ::http::Method;

/// What [`Router::route`](super::Router::route) takes as methods: one, or several.
pub trait Methods {
    /// All of them.
    fn methods(self) -> impl IntoIterator<Item = Method>;
}

impl Methods for Method {
    fn methods(self) -> impl IntoIterator<Item = Method> {
        [self]
    }
}

impl<const N: usize> Methods for [Method; N] {
    fn methods(self) -> impl IntoIterator<Item = Method> {
        self
    }
}

impl Methods for Vec<Method> {
    fn methods(self) -> impl IntoIterator<Item = Method> {
        self
    }
}

impl Methods for &[Method] {
    fn methods(self) -> impl IntoIterator<Item = Method> {
        self.to_vec()
    }
}
