//! What a server can be told.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{HeaderName, HeaderValue};

use super::{AccessLog, Protocol, Watch};
use crate::app::{Leaving, Networks, Trust};
use crate::http::{Limits, ProxyProtocol};
use crate::metrics::Meter;

/// The settings of a [`Server`](super::Server), each with its builder method there.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    pub(crate) uwsgi_allow_ips: Networks,
    pub(crate) multiprocess: bool,
    /// More than one thread serves, whatever the transport is.
    pub(crate) multithread: bool,
    pub(crate) threads: Option<NonZeroUsize>,
    pub(crate) worker_connections: usize,
    pub(crate) backlog: u32,
    pub(crate) keep_alive: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) body_rate: Option<BodyRate>,
    pub(crate) write_timeout: Duration,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) cancel_on_disconnect: Option<Leaving>,
    pub(crate) graceful_timeout: Duration,
    pub(crate) blocked_threshold: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) trust: Arc<Trust>,
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) proxy_allow_ips: Networks,
    pub(crate) server_name: Option<HeaderValue>,
    pub(crate) request_id_header: Option<HeaderName>,
    pub(crate) access_log: Option<Arc<dyn AccessLog>>,
    pub(crate) watch: Option<Arc<dyn Watch>>,
    pub(crate) meter: Option<Meter>,
}

/// How fast a request's body must come at least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyRate {
    pub(crate) bytes_per_second: NonZeroU64,
    /// What is given before that.
    pub(crate) grace: Duration,
}

impl BodyRate {
    /// How long a body may have been waited for in all when so many bytes of it have come.
    pub(crate) fn allows(&self, received: u64) -> Duration {
        let rate = self.bytes_per_second.get();
        let nanos = u128::from(received % rate) * 1_000_000_000 / u128::from(rate);
        // Less than a second's.
        let earned = Duration::from_secs(received / rate) + Duration::from_nanos(nanos as u64);
        self.grace.saturating_add(earned)
    }
}

impl Settings {
    /// A connection's thread has begun. Counted if it was noted when the connection was accepted.
    #[inline]
    pub(crate) fn has_waited(&self, accepted: Option<Instant>) {
        if let (Some(meter), Some(accepted)) = (&self.meter, accepted) {
            meter.waited(accepted);
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            protocol: Protocol::Http,
            uwsgi_allow_ips: Networks::loopback(),
            multiprocess: false,
            multithread: false,
            threads: None,
            worker_connections: 10_000,
            backlog: 2048,
            keep_alive: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            body_rate: None,
            write_timeout: Duration::from_secs(30),
            request_timeout: None,
            cancel_on_disconnect: None,
            graceful_timeout: Duration::from_secs(30),
            blocked_threshold: Some(Duration::from_millis(100)),
            limits: Limits::default(),
            trust: Arc::default(),
            proxy_protocol: ProxyProtocol::Off,
            proxy_allow_ips: Networks::loopback(),
            server_name: None,
            request_id_header: None,
            access_log: None,
            watch: None,
            meter: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("protocol", &self.protocol)
            .field("uwsgi_allow_ips", &self.uwsgi_allow_ips)
            .field("multiprocess", &self.multiprocess)
            .field("threads", &self.threads)
            .field("worker_connections", &self.worker_connections)
            .field("backlog", &self.backlog)
            .field("keep_alive", &self.keep_alive)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("header_timeout", &self.header_timeout)
            .field("body_timeout", &self.body_timeout)
            .field("body_rate", &self.body_rate)
            .field("write_timeout", &self.write_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("cancel_on_disconnect", &self.cancel_on_disconnect)
            .field("graceful_timeout", &self.graceful_timeout)
            .field("blocked_threshold", &self.blocked_threshold)
            .field("limits", &self.limits)
            .field("trust", &self.trust)
            .field("proxy_protocol", &self.proxy_protocol)
            .field("proxy_allow_ips", &self.proxy_allow_ips)
            .field("server_name", &self.server_name)
            .field("request_id_header", &self.request_id_header)
            .field("access_log", &self.access_log.is_some())
            .field("meter", &self.meter.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_earns_its_share_of_a_second() {
        let rate = |bytes, grace| BodyRate { bytes_per_second: NonZeroU64::new(bytes).unwrap(), grace };
        let grace = Duration::from_secs(5);
        assert_eq!(rate(240, grace).allows(0), grace);
        assert_eq!(rate(240, grace).allows(360), Duration::from_millis(6500));
        assert_eq!(rate(3, Duration::ZERO).allows(1), Duration::from_nanos(333_333_333));
        assert_eq!(rate(u64::MAX, Duration::ZERO).allows(u64::MAX - 1), Duration::from_nanos(999_999_999));
        assert_eq!(rate(1, Duration::MAX).allows(u64::MAX), Duration::MAX);
    }
}
