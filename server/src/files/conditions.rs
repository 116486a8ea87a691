//! Preconditions: RFC 9110, 13. Pure functions over headers.

use std::time::SystemTime;

use ::http::header::{self, HeaderMap, HeaderName};

use super::only;

/// What a representation is recognised by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validators<'a> {
    /// A strong entity tag, with its quotes.
    pub(super) etag: &'a str,
    /// In whole seconds.
    pub(super) modified: Option<SystemTime>,
}

/// What the preconditions of a `GET` or `HEAD` come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions in the order of RFC 9110, 13.2.2. A date that cannot be read is no precondition.
pub(super) fn evaluate(headers: &HeaderMap, validators: Validators<'_>) -> Outcome {
    let holds = match (tags(headers, &header::IF_MATCH), date(headers, &header::IF_UNMODIFIED_SINCE)) {
        (Some(tags), _) => tags.contains_strongly(validators.etag),
        (None, Some(since)) => validators.modified.is_none_or(|modified| modified <= since),
        (None, None) => true,
    };
    if !holds {
        return Outcome::Failed;
    }
    let known = match (tags(headers, &header::IF_NONE_MATCH), date(headers, &header::IF_MODIFIED_SINCE)) {
        (Some(tags), _) => tags.contains_weakly(validators.etag),
        (None, Some(since)) => validators.modified.is_some_and(|modified| modified <= since),
        (None, None) => false,
    };
    if known { Outcome::NotModified } else { Outcome::Proceed }
}

/// Does `If-Range` leave `Range` in force? Its tag is compared strongly, its date exactly (RFC 9110, 13.1.5).
pub(super) fn range_applies(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    match only(headers, &header::IF_RANGE) {
        Some(text) if text.contains('"') => text.trim() == validators.etag,
        Some(text) => {
            httpdate::parse_http_date(text).ok().is_some_and(|date| Some(date) == validators.modified)
        }
        None => false,
    }
}

/// The entity tags of a header, all its fields together.
struct Tags<'a> {
    any: bool,
    list: Vec<&'a str>,
}

impl Tags<'_> {
    fn contains_strongly(&self, etag: &str) -> bool {
        self.any || self.list.contains(&etag)
    }

    fn contains_weakly(&self, etag: &str) -> bool {
        self.any || self.list.iter().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
    }
}

fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Tags<'a>> {
    if !headers.contains_key(name) {
        return None;
    }
    let mut tags = Tags { any: false, list: Vec::new() };
    for text in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
        if text.trim() == "*" {
            tags.any = true;
            continue;
        }
        // a tag may hold commas, so the list is cut at the quotes
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while let Some(tag) = leading_tag(rest) {
            tags.list.push(tag);
            rest = rest[tag.len()..].trim_start_matches([' ', '\t', ',']);
        }
    }
    Some(tags)
}

fn leading_tag(text: &str) -> Option<&str> {
    let prefix = if text.starts_with("W/") { 2 } else { 0 };
    let opaque = text[prefix..].strip_prefix('"')?;
    let end = opaque.find('"')?;
    Some(&text[..prefix + 1 + end + 1])
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(only(headers, name)?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const BEFORE: &str = "Fri, 20 Nov 2026 00:00:00 GMT";
    const SAME: &str = "Sat, 21 Nov 2026 07:13:43 GMT";
    const AFTER: &str = "Sun, 22 Nov 2026 00:00:00 GMT";

    fn validators() -> Validators<'static> {
        let modified = UNIX_EPOCH + Duration::from_secs(1_795_245_223);
        Validators { etag: "\"a,b\"", modified: Some(modified) }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, header::HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preconditions_follow_rfc_9110_13_2_2() {
        use Outcome::{Failed, NotModified, Proceed};
        type Case = (&'static [(&'static str, &'static str)], Outcome);
        let cases: &[Case] = &[
            (&[], Proceed),
            // 13.1.1
            (&[("if-match", "\"a,b\"")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"x\", \"a,b\"")], Proceed),
            (&[("if-match", "\"x\""), ("if-match", "\"a,b\"")], Proceed),
            (&[("if-match", "W/\"a,b\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "")], Failed),
            // 13.1.2
            (&[("if-none-match", "\"a,b\"")], NotModified),
            (&[("if-none-match", "W/\"a,b\"")], NotModified),
            (&[("if-none-match", "\"x\" , W/\"a,b\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"a\"")], Proceed),
            (&[("if-none-match", "a,b")], Proceed),
            // 13.1.3
            (&[("if-modified-since", SAME)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Proceed),
            (&[("if-modified-since", "yesterday")], Proceed),
            (&[("if-modified-since", AFTER), ("if-modified-since", AFTER)], Proceed),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Proceed),
            // 13.1.4
            (&[("if-unmodified-since", SAME)], Proceed),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", "yesterday")], Proceed),
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], Proceed),
            // 13.2.2: the first ones first
            (&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Failed),
            (&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], NotModified),
        ];
        for (fields, expected) in cases {
            assert_eq!(evaluate(&headers(fields), validators()), *expected, "{fields:?}");
        }
    }

    #[test]
    fn if_range_wants_exactly_the_same_representation() {
        for (value, applies) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"x\"", false),
            (SAME, true),
            (BEFORE, false),
            (AFTER, false),
            ("nonsense", false),
        ] {
            assert_eq!(range_applies(&headers(&[("if-range", value)]), validators()), applies, "{value}");
        }
        assert!(range_applies(&HeaderMap::new(), validators()));
    }
}
