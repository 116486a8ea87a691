//! Charts for pages that need nothing but themselves: lines as inline SVG, bars as HTML, the style of both, and numbers as
//! people read them.
//!
//! What is shown is the caller's: nothing in here knows servers or runtimes, measures or reads files. Colours are CSS
//! classes of [`STYLE`], which has them for light and dark mode: `green` for what is ours, `threads` for what it is held
//! against, `p1` to `p12` for others.

mod axis;
mod bars;
mod chart;
mod number;
mod style;

pub(crate) use bars::{Bar, bars};
pub(crate) use chart::{Chart, NARROW, Series, Sign, WIDE};
pub(crate) use number::{bytes, count, seconds, thousands};
pub(crate) use style::STYLE;

/// Text as it may stand in HTML and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
