//! A bar for each of a few values, as HTML.

use std::fmt::Write;

use super::escape;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar<'a> {
    /// What it is of.
    pub(crate) name: &'a str,
    /// The CSS class that gives its colour.
    pub(crate) class: &'a str,
    /// How long it is.
    pub(crate) value: f64,
    /// What stands at its end.
    pub(crate) text: String,
}

/// Longer than so many times the bar in the middle: cut off, so that the others can still be told apart.
const CUT: f64 = 3.0;

/// Bars from zero, in the order given. `unit` tells what their length is.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar<'_>]) -> String {
    let longest = scale(bars.iter().map(|bar| bar.value));
    let mut html = format!(
        "<figure><figcaption>{}</figcaption>\n<p class=\"unit\">{}</p>\n<div class=\"bars\">\n",
        escape(title),
        escape(unit)
    );
    for bar in bars {
        let cut = if bar.value > longest { " cut" } else { "" };
        let _ = writeln!(
            html,
            "<span class=\"{}\">{}</span><i class=\"{}{cut}\" style=\"width:{:.1}%\"></i><b>{}</b>",
            bar.class,
            escape(bar.name),
            bar.class,
            100.0 * (bar.value / longest).clamp(0.0, 1.0),
            escape(&bar.text),
        );
    }
    html.push_str("</div></figure>\n");
    html
}

/// The value whose bar takes the whole width.
fn scale(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied().unwrap_or(1.0);
    values.last().copied().unwrap_or(1.0).min(CUT * middle).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_far_longer_than_the_others_is_cut() {
        assert_eq!(scale([1.0, 2.0, 3.0].into_iter()), 3.0);
        assert_eq!(scale([1.0, 2.0, 30.0].into_iter()), 6.0);
        assert!(scale([0.0].into_iter()) > 0.0 && scale([].into_iter()) > 0.0);
        let bar = |name, value: f64| Bar { name, class: "p1", value, text: format!("{value}") };
        let html = bars("a & b", "s", &[bar("one", 1.0), bar("two", 2.0), bar("far", 30.0)]);
        assert_eq!(html.matches("<i class=\"p1\"").count(), 2);
        assert!(html.contains("<i class=\"p1 cut\" style=\"width:100.0%\"></i><b>30</b>"), "{html}");
        assert!(html.contains("style=\"width:16.7%\"") && html.contains("a &amp; b"), "{html}");
    }
}
