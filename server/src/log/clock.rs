//! The dates of log lines: formatted once per second and thread, in UTC.

use std::cell::Cell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The two spellings of one moment.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    second: u64,
    /// `2026-11-21 07:13:43 +0000`, as the error log has it.
    pub(super) error: [u8; 25],
    /// `21/Nov/2026:07:13:43 +0000`, as the access log has it.
    pub(super) access: [u8; 26],
    /// `2026-11-21T07:13:43`, without what is below a second.
    seconds: [u8; 19],
    millis: u32,
}

thread_local! {
    static LATEST: Cell<Stamp> = const { Cell::new(Stamp { second: u64::MAX, error: [0; 25], access: [0; 26], seconds: [0; 19], millis: 0 }) };
}

/// The stamp of now.
pub(super) fn now() -> Stamp {
    // a clock before 1970 is broken; its dates may be too
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, millis) = (time.as_secs(), time.subsec_millis());
    let latest = LATEST.get();
    if latest.second == second {
        return Stamp { millis, ..latest };
    }
    let stamp = Stamp { millis, ..Stamp::of(second) };
    LATEST.set(stamp);
    stamp
}

impl Stamp {
    /// Appends `2026-11-21T07:13:43.123Z` (RFC 3339).
    pub(super) fn write_rfc3339(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(&self.seconds);
        // writing to a Vec does not fail
        let _ = write!(line, ".{:03}Z", self.millis);
    }

    fn of(second: u64) -> Self {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = civil_date(second / 86_400);
        let time = second % 86_400;
        let (hour, minute, sec) = (time / 3600, time / 60 % 60, time % 60);
        let name = MONTHS[month as usize - 1];
        Stamp {
            second,
            error: fixed(&format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{sec:02} +0000")),
            access: fixed(&format!("{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{sec:02} +0000")),
            seconds: fixed(&format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{sec:02}")),
            millis: 0,
        }
    }
}

/// Cut or padded to the length that the years 0 to 9999 give.
fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [b' '; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. A year begins in March here,
/// so that the leap day is its last one; then 400 years have 146,097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        for (second, error, access) in [
            (0, "1970-01-01 00:00:00 +0000", "01/Jan/1970:00:00:00 +0000"),
            (951_782_400, "2000-02-29 00:00:00 +0000", "29/Feb/2000:00:00:00 +0000"),
            (1_795_245_223, "2026-11-21 07:13:43 +0000", "21/Nov/2026:07:13:43 +0000"),
            (4_107_542_399, "2100-02-28 23:59:59 +0000", "28/Feb/2100:23:59:59 +0000"),
            (4_107_542_400, "2100-03-01 00:00:00 +0000", "01/Mar/2100:00:00:00 +0000"),
        ] {
            let stamp = Stamp::of(second);
            assert_eq!(std::str::from_utf8(&stamp.error), Ok(error));
            assert_eq!(std::str::from_utf8(&stamp.access), Ok(access));
        }
    }

    #[test]
    fn rfc_3339_has_milliseconds() {
        let mut text = Vec::new();
        Stamp { millis: 7, ..Stamp::of(951_782_400) }.write_rfc3339(&mut text);
        assert_eq!(text, b"2000-02-29T00:00:00.007Z");
    }

    #[test]
    fn dates_agree_with_httpdate_over_a_century() {
        for day in (0..40_000).step_by(7) {
            let time = UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400);
            let (year, month, date) = civil_date(day);
            let text = httpdate::fmt_http_date(time);
            let fields: Vec<_> = text.split(' ').collect();
            assert_eq!((fields[1].parse(), fields[3].parse()), (Ok(date), Ok(year)), "{text}, month {month}");
        }
    }
}
