//! The form in which paths are compared (RFC 3986, 6.2.2).

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a pattern may have as it is, and a client has to encode.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// A path in which percent-encoding is left only where it makes a difference, and in capitals. Its slashes are those of the
/// path: `%2F` stays as it is.
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', path.as_bytes()).is_none() { Cow::Borrowed(path) } else { decoded(path).into() }
}

#[cold]
fn decoded(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        normal.push_str(before);
        let byte = behind.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    normal.push(char::from(byte));
                } else {
                    normal.push_str(percent_encoding::percent_encode_byte(byte));
                }
                rest = &behind[2..];
            }
            // It stands for itself, and must not make an encoding with what is decoded behind it.
            None => {
                normal.push_str("%25");
                rest = behind;
            }
        }
    }
    normal + rest
}

/// A pattern in the form of the paths that it is to match, and the names of its parameters.
pub(super) fn normal_pattern(pattern: &str) -> (String, Vec<Arc<str>>) {
    let (mut normal_form, mut names) = (String::with_capacity(pattern.len()), Vec::new());
    let mut rest = pattern;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, behind) = rest.split_at(brace);
        push_literal(&mut normal_form, before);
        let end = match behind.as_bytes() {
            [b'{', b'{', ..] | [b'}', b'}', ..] => 2,
            // What is not complete is for the tree to complain of.
            _ => behind.find('}').map_or(behind.len(), |end| {
                let name = behind[..end].trim_start_matches(['{', '*']);
                names.push(name.into());
                end + 1
            }),
        };
        normal_form.push_str(&behind[..end]);
        rest = &behind[end..];
    }
    push_literal(&mut normal_form, rest);
    (normal_form, names)
}

fn push_literal(normal_form: &mut String, text: &str) {
    let encoded: Cow<'_, str> = utf8_percent_encode(text, ENCODED).into();
    normal_form.push_str(&normal(&encoded));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_left_where_it_makes_a_difference() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/%61%7e%2D", "/a~-"),
            ("/a%2fb%c3%A9", "/a%2Fb%C3%A9"),
            ("/%25%2525", "/%25%2525"),
            ("/%2e%2E/", "/../"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn a_percent_sign_of_its_own_makes_no_encoding_with_what_follows() {
        for (path, expected) in
            [("/100%", "/100%25"), ("/%4", "/%254"), ("/%%34%31", "/%2541"), ("/%zz%é", "/%25zz%25é")]
        {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_normal_stays_so() {
        for path in ["/%%34%31", "/%c3%a9/%2f", "/100%/%41", "/a b"] {
            assert_eq!(normal(&normal(path)), normal(path), "{path}");
        }
    }

    #[test]
    fn patterns_are_written_as_one_likes() {
        for (pattern, expected) in [
            ("/café/{größe}.x", "/caf%C3%A9/{größe}.x größe"),
            ("/caf%c3%a9/{b}/{*a}", "/caf%C3%A9/{b}/{*a} b a"),
            ("/a b/{{é}}/x-{c}", "/a%20b/{{%C3%A9}}/x-{c} c"),
            ("/{open", "/{open"),
        ] {
            let (form, names) = normal_pattern(pattern);
            assert_eq!(names.iter().fold(form, |all, name| format!("{all} {name}")), expected, "{pattern}");
        }
    }
}
