//! Objects of JSON, a line each, appended to a buffer.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use super::context;

/// An object that is being written: [`begin`](Self::begin), members, [`end`](Self::end).
pub(super) struct Object<'a> {
    line: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    pub(super) fn begin(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line }
    }

    /// The name of a member, whose value the caller appends to what is returned.
    pub(super) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.line.last() != Some(&b'{') {
            self.line.push(b',');
        }
        text(self.line, name);
        self.line.push(b':');
        self.line
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        text(self.member(name), value);
    }

    /// What is no UTF-8 in it becomes U+FFFD. Nothing for no value.
    pub(super) fn bytes(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(name, &String::from_utf8_lossy(value));
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        let line = self.member(name);
        line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A text that is made by its `Display`.
    pub(super) fn display(&mut self, name: &str, value: impl fmt::Display) {
        let line = self.member(name);
        line.push(b'"');
        // It fails only if a Display does; what that wrote so far is still worth having.
        let _ = write!(Quoted(line), "{value}");
        line.push(b'"');
    }

    /// The id of the request and, as an object, the fields of its context, if there are any.
    pub(super) fn context(&mut self) {
        context::with(|id, fields| {
            if let Some(id) = id {
                self.text("request_id", id);
            }
            if fields.is_empty() {
                return;
            }
            let mut inner = Object::begin(self.member("fields"));
            for (name, value) in fields {
                inner.text(name, value);
            }
            inner.end();
        });
    }

    pub(super) fn end(self) {
        self.line.push(b'}');
    }
}

fn text(line: &mut Vec<u8>, value: &str) {
    // writing to a Vec does not fail
    let _ = serde_json::to_writer(line, value);
}

/// Escapes what goes between quotes.
struct Quoted<'a>(&'a mut Vec<u8>);

impl fmt::Write for Quoted<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            match c {
                '"' | '\\' => self.0.extend_from_slice(&[b'\\', c as u8]),
                '\n' => self.0.extend_from_slice(b"\\n"),
                c if u32::from(c) < 0x20 => {
                    write!(self.0, "\\u{:04x}", u32::from(c)).map_err(|_| fmt::Error)?
                }
                c => self.0.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_values_are_it_is_one_line_of_json() {
        let strange = "\"\\\n\r\t\u{0}\u{1b}\u{7f}\u{85}\u{2028}ü";
        let mut line = Vec::new();
        let mut object = Object::begin(&mut line);
        object.text("text", strange);
        object.display("display", strange);
        object.bytes("bytes", Some(b"a\xffb"));
        object.bytes("none", None);
        object.number("number", 7);
        object.end();
        assert!(!line.iter().any(|&byte| byte < 0x20), "{line:?}");
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "text": strange, "display": strange, "bytes": "a\u{fffd}b", "number": 7,
        });
        assert_eq!(value, expected);
    }
}
