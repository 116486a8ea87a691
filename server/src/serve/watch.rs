//! Who is told how a server fares.

use std::time::Duration;

/// Is told of it by the threads that serve.
pub(crate) trait Watch: Send + Sync + 'static {
    /// It accepts from now on.
    fn accepts(&self);

    /// It does not hang: whoever accepts has had its turn. Called about every [`PULSE`].
    fn turns(&self);
}

/// How often a server shows that it lives.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
