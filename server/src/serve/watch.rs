//! Who is told how a server fares.

use std::sync::Arc;
use std::time::Duration;

use super::HubSign;
use super::insight::Insight;

/// Is told of it by the threads that serve.
pub(crate) trait Watch: Send + Sync + 'static {
    /// This is how to look into it, from now on. If several hubs serve each calls this, in its own thread, and says which it is.
    fn shows(&self, hub: Option<HubSign>, insight: Arc<dyn Insight>) {
        let _ = (hub, insight);
    }

    /// It accepts from now on.
    fn accepts(&self);

    /// It does not hang: all who accept have had their turn. Called about every [`PULSE`].
    fn turns(&self);

    /// Whether others who accept on the same sockets should go first: this server has so many connections, and they fewer. Asked
    /// before each accept, and told now and then.
    fn has_more(&self, _connections: usize) -> bool {
        false
    }
}

/// Whether one of so many members, who have so much in all, has more than the average: by more than an eighth, and more than
/// one. Who is never asked to wait for small differences is not slowed down.
pub(crate) fn is_above_average(own: usize, sum: usize, members: usize) -> bool {
    members > 1 && own > sum / members + sum / members / 8 + 1
}

/// How long others get to go first.
pub(super) const COURTESY: Duration = Duration::from_millis(1);

/// How often a server shows that it lives.
pub(crate) const PULSE: Duration = Duration::from_secs(1);
