//! The `Date` field's value, made once a second.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date as `Date` wants it (RFC 9110, 5.6.7), formatted again only when the second has changed.
#[derive(Debug, Clone)]
pub struct DateCache {
    from: SystemTime,
    until: SystemTime,
    text: [u8; 29],
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> DateCache {
        let mut cache = DateCache { from: UNIX_EPOCH, until: UNIX_EPOCH, text: [b' '; 29] };
        cache.format(UNIX_EPOCH);
        cache
    }

    /// The date at `now`, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn at(&mut self, now: SystemTime) -> &[u8; 29] {
        // Compared as they are: what lies between two times costs more to compute.
        if now < self.from || now >= self.until {
            self.format(now);
        }
        &self.text
    }

    #[cold]
    fn format(&mut self, now: SystemTime) {
        // Before 1970 and after 9999 there is no such date; a clock that wrong gets the nearest.
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
        self.from = UNIX_EPOCH + Duration::from_secs(second);
        self.until = self.from + Duration::from_secs(1);
        let date = httpdate::HttpDate::from(self.from);
        // The text has 29 bytes always, so that writing it can't fail.
        let _ = write!(&mut self.text[..], "{date}");
    }
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache::new()
    }
}

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock_in_both_directions() {
        let mut cache = DateCache::new();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(cache.at(at(784_111_777)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(at(784_111_777)), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(cache.at(at(784_111_778)), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(cache.at(at(0)), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.at(at(LAST + 1)), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
