//! Who is told how a server fares.

use std::sync::Arc;
use std::time::Duration;

use super::insight::Insight;

/// Is told of it by the threads that serve.
pub(crate) trait Watch: Send + Sync + 'static {
    /// This is how to look into it, from now on.
    fn shows(&self, insight: Arc<dyn Insight>) {
        let _ = insight;
    }

    /// It accepts from now on.
    fn accepts(&self);

    /// It does not hang: whoever accepts has had its turn. Called about every [`PULSE`].
    fn turns(&self);

    /// Whether others who accept on the same sockets should go first: this server has so many connections, and they fewer. Asked
    /// before each accept, and told now and then.
    fn has_more(&self, _connections: usize) -> bool {
        false
    }
}

/// How long others get to go first.
pub(super) const COURTESY: Duration = Duration::from_millis(1);

/// How often a server shows that it lives.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
