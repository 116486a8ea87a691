//! What a request says of other protocols.

use ::http::Version;

use super::list;

/// The protocols that a request asks to change to, in the client's order, from the fields of its head (RFC 9110, 7.8): none
/// unless `Connection` names `upgrade`, and none in HTTP/1.0. They are compared without regard to case.
pub fn protocols<'h>(version: Version, fields: impl Iterator<Item = (&'h str, &'h [u8])>) -> Vec<&'h str> {
    let mut found = Vec::new();
    let mut is_asked = false;
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("connection") {
            is_asked |= list(value).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        } else if name.eq_ignore_ascii_case("upgrade") {
            found.extend(list(value).filter_map(|protocol| std::str::from_utf8(protocol).ok()));
        }
    }
    if !is_asked || version != Version::HTTP_11 {
        found.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_count_only_if_the_connection_is_to_be_upgraded() {
        let asked = |version, fields: &[(&'static str, &'static str)]| {
            protocols(version, fields.iter().map(|(name, value)| (*name, value.as_bytes())))
        };
        let one = Version::HTTP_11;
        for (fields, expected) in [
            (&[("Connection", "Upgrade"), ("Upgrade", "websocket")][..], &["websocket"][..]),
            (
                &[("upgrade", "b"), ("CONNECTION", "keep-alive, UPGRADE"), ("Upgrade", ", c/2 ,")],
                &["b", "c/2"],
            ),
            (&[("Connection", "a"), ("Connection", "upgrade"), ("Upgrade", "b")], &["b"]),
            (&[("Connection", "keep-alive"), ("Upgrade", "b")], &[]),
            (&[("Connection", "upgraded"), ("Upgrade", "b")], &[]),
            (&[("Upgrade", "b")], &[]),
            (&[("Connection", "upgrade")], &[]),
        ] {
            assert_eq!(asked(one, fields), expected, "{fields:?}");
        }
        assert!(asked(Version::HTTP_10, &[("Connection", "upgrade"), ("Upgrade", "b")]).is_empty());
    }
}
