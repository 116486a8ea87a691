//! How much a peer may send.

/// How much of a request's head and body is accepted. Sizes are bytes; the defaults are gunicorn's.
///
/// 0 means "no limit of mine" as in gunicorn, but nothing is ever unbounded: hard limits of about 64 KiB for the request
/// line, 24,576 fields and 1 MiB for a whole head, the extensions of a chunk or all trailers stand behind the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The request line without its CRLF (`limit_request_line`, 4094): 414 above it.
    pub request_line: usize,
    /// The number of header fields (`limit_request_fields`, 100): 431 above it.
    pub request_fields: usize,
    /// One header field with its CRLF (`limit_request_field_size`, 8190): 431 above it.
    pub request_field_size: usize,
    /// The body without chunk framing (0, no limit): 413 above it.
    pub request_body: u64,
    /// The extensions of one chunk (4096), from the `;` on: 400 above it. All chunks of a body together may have four times
    /// as much, and as much as there is data.
    pub chunk_extensions: usize,
    /// All trailer fields of a chunked body together (8190): 400 above it.
    pub trailers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_line: 4094,
            request_fields: 100,
            request_field_size: 8190,
            request_body: 0,
            chunk_extensions: 4096,
            trailers: 8190,
        }
    }
}

/// What the `http` crate's `Uri` takes; the rest of the line is a method and a version.
const HARD_REQUEST_LINE: usize = 65_535;
/// What the `http` crate's `HeaderMap` takes.
const HARD_REQUEST_FIELDS: usize = 24_576;
/// A whole head.
pub(crate) const HARD_HEAD: usize = 1 << 20;

impl Limits {
    pub(crate) fn line(&self) -> usize {
        bounded(self.request_line, HARD_REQUEST_LINE)
    }

    pub(crate) fn fields(&self) -> usize {
        bounded(self.request_fields, HARD_REQUEST_FIELDS)
    }

    pub(crate) fn field_size(&self) -> usize {
        bounded(self.request_field_size, HARD_HEAD)
    }

    /// Whether there may be so many fields, the longest of so many bytes with its CRLF.
    pub(crate) fn fields_allow(&self, count: usize, longest: usize) -> bool {
        count <= self.fields() && longest <= self.field_size()
    }

    pub(crate) fn chunk_extensions(&self) -> usize {
        bounded(self.chunk_extensions, HARD_HEAD)
    }

    pub(crate) fn trailers(&self) -> usize {
        bounded(self.trailers, HARD_HEAD)
    }

    pub(crate) fn body_allows(&self, length: u64) -> bool {
        self.request_body == 0 || length <= self.request_body
    }
}

fn bounded(limit: usize, hard: usize) -> usize {
    if limit == 0 { hard } else { limit.min(hard) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_hard_limit_and_nothing_is_above_it() {
        let none = Limits {
            request_line: 0,
            request_fields: 0,
            request_field_size: 0,
            request_body: 0,
            chunk_extensions: 0,
            trailers: 0,
        };
        assert_eq!((none.chunk_extensions(), none.trailers()), (HARD_HEAD, HARD_HEAD));
        assert_eq!((none.line(), none.fields()), (HARD_REQUEST_LINE, HARD_REQUEST_FIELDS));
        assert_eq!(none.field_size(), HARD_HEAD);
        assert!(none.body_allows(u64::MAX));
        assert_eq!(Limits { request_line: usize::MAX, ..none }.line(), HARD_REQUEST_LINE);
    }

    #[test]
    fn the_body_limit_is_inclusive() {
        let limits = Limits { request_body: 10, ..Limits::default() };
        assert!(limits.body_allows(10) && !limits.body_allows(11));
    }
}
