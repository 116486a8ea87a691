//! The `Date` field's value, made once a second.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date as `Date` wants it (RFC 9110, 5.6.7), formatted again only when the second has changed.
#[derive(Debug, Clone)]
pub struct DateCache {
    second: u64,
    text: [u8; 29],
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> DateCache {
        let mut cache = DateCache { second: u64::MAX, text: [b' '; 29] };
        cache.at(UNIX_EPOCH);
        cache
    }

    /// The date at `now`, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn at(&mut self, now: SystemTime) -> &[u8; 29] {
        // Before 1970 and after 9999 there is no such date; a clock that wrong gets the nearest.
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
        if second != self.second {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            // The text has 29 bytes always, so that writing it can't fail.
            let _ = write!(&mut self.text[..], "{date}");
            self.second = second;
        }
        &self.text
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
