//! Query values, each with its bounds.

use std::ops::RangeInclusive;

use crate::Request;

/// The query of one request.
pub(super) struct Query<'a>(&'a str);

/// What is wrong with it, for the client to read.
#[derive(Debug)]
pub(super) struct BadQuery(pub(super) String);

impl<'a> Query<'a> {
    pub(super) fn of(req: &'a Request) -> Self {
        Self(req.query().unwrap_or_default())
    }

    /// The first value of that name, as it came.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        })
    }

    /// A whole number within bounds, or `default` if there is none of that name.
    pub(super) fn number(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, BadQuery> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ => Err(BadQuery(format!(
                "the query value {name}={text} is not a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }
}
