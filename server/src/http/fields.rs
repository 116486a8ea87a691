//! The header fields that the server itself obeys.

use super::ParseError;
use super::framing::TransferEncoding;
use super::target::is_host;

/// What the server must know of the fields, gathered while they pass by.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) host: bool,
    pub(super) content_length: Option<u64>,
    pub(super) transfer_encoding: Option<TransferEncoding>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// Kept until all else was judged: a request that is malformed as well is malformed first.
    pub(super) expect_other: bool,
}

/// What to do with a field besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Hand it on.
    Plain,
    /// Hand it on, masked in `Debug` output.
    Sensitive,
    /// It repeats what an earlier one said (RFC 9112, 6.3, of equal `Content-Length`s).
    Drop,
}

impl Facts {
    /// Takes note of one field. Its name and value were found by the tokenizer and are free of control characters.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<Keep, ParseError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // The length alone tells most fields apart.
        match name.len() {
            4 if is("host") => {
                if self.host {
                    return Err(ParseError::HostRepeated);
                }
                if !is_host(value) {
                    return Err(ParseError::HostInvalid);
                }
                self.host = true;
            }
            6 if is("expect") => {
                for expectation in list(value) {
                    match expectation.eq_ignore_ascii_case(b"100-continue") {
                        true => self.expect_continue = true,
                        false => self.expect_other = true,
                    }
                }
            }
            6 if is("cookie") => return Ok(Keep::Sensitive),
            10 if is("connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            13 if is("authorization") => return Ok(Keep::Sensitive),
            14 if is("content-length") => {
                let length = parse_length(value).ok_or(ParseError::ContentLength)?;
                match self.content_length.replace(length) {
                    None => {}
                    Some(earlier) if earlier == length => return Ok(Keep::Drop),
                    Some(_) => return Err(ParseError::ContentLength),
                }
            }
            17 if is("transfer-encoding") => {
                self.transfer_encoding.get_or_insert_default().add_line(value)?;
            }
            19 if is("proxy-authorization") => return Ok(Keep::Sensitive),
            _ => {}
        }
        Ok(Keep::Plain)
    }
}

/// One or more digits, no sign, no list, no overflow (RFC 9110, 8.6).
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// The elements of a comma-separated list without the white space around them; empty ones are skipped (RFC 9110, 5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|element| !element.is_empty())
}

/// Takes off optional white space: spaces and tabs, nothing else (RFC 9110, 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", " 1", "1,1", "0x1", "1.0", "18446744073709551616", "１"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_skip_empty_elements_and_trim_spaces_and_tabs_only() {
        let all: Vec<_> = list(b" a ,,\tb\t, \x0bc").collect();
        assert_eq!(all, [&b"a"[..], b"b", b"\x0bc"]);
    }
}
