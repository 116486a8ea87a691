//! Line charts as inline SVG. Colours and fonts are the page's (CSS classes), so that they follow dark and light mode.

use std::fmt::Write;

use super::axis::Axis;
use super::escape;

/// A chart of a few series over one axis of positions.
pub(crate) struct Chart<'a> {
    /// What is shown, for the heading and for readers who don't see it.
    pub(crate) title: &'a str,
    /// How large it is.
    pub(crate) size: Size,
    /// Beneath the horizontal axis.
    pub(crate) x_title: &'a str,
    /// Where on the horizontal axis what is written.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// How a value is written.
    pub(crate) write: fn(f64) -> String,
    /// The lines; later ones lie on top.
    pub(crate) series: Vec<Series<'a>>,
}

/// One line of a chart.
pub(crate) struct Series<'a> {
    /// Its name, written beside its end.
    pub(crate) name: &'a str,
    /// The CSS classes that give its colour and its stroke.
    pub(crate) class: &'a str,
    /// What marks each point: a second sign beside the colour.
    pub(crate) sign: Sign,
    /// Position, value and the text shown when the pointer rests on it.
    pub(crate) points: Vec<(f64, f64, String)>,
    /// Why it goes no further, if it ought to: a cross stands at its end.
    pub(crate) broken: Option<String>,
}

/// What marks a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Round,
    Square,
    /// Nothing: where there are so many points that they are the line.
    None,
}

/// A chart's size, in units that are pixels where the page is as wide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    width: f64,
    height: f64,
    /// Room for the names at the lines' ends.
    right: f64,
}

/// For two lines with short names.
pub(crate) const NARROW: Size = Size { width: 460.0, height: 270.0, right: 66.0 };
/// For a dozen lines.
pub(crate) const WIDE: Size = Size { width: 640.0, height: 400.0, right: 150.0 };

const LEFT: f64 = 62.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// From one name to the next.
const LINE: f64 = 14.0;

impl Chart<'_> {
    /// The chart as an `<svg>` element.
    pub(crate) fn svg(&self) -> String {
        let Size { width, height, .. } = self.size;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escape(self.title)
        );
        let values = || self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let Some(axis) = Axis::over(values()) else {
            let (x, y) = (width / 2.0, height / 2.0);
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">nothing measured</text></svg>"
            );
            return svg;
        };
        self.draw_axes(&mut svg, &axis);
        for series in &self.series {
            self.draw_series(&mut svg, &axis, series);
        }
        self.draw_names(&mut svg, &axis);
        svg.push_str("</svg>\n");
        svg
    }

    fn bottom(&self) -> f64 {
        self.size.height - BOTTOM
    }

    fn right(&self) -> f64 {
        self.size.width - self.size.right
    }

    fn x(&self, position: f64) -> f64 {
        let positions = || self.x_ticks.iter().map(|tick| tick.0);
        let (low, high) = (positions().fold(f64::MAX, f64::min), positions().fold(f64::MIN, f64::max));
        let share = if high > low { (position - low) / (high - low) } else { 0.5 };
        LEFT + 8.0 + share * (self.right() - LEFT - 16.0)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom() - axis.share(value) * (self.bottom() - TOP)
    }

    fn draw_axes(&self, svg: &mut String, axis: &Axis) {
        let (right, bottom) = (self.right(), self.bottom());
        for tick in axis.ticks() {
            let y = self.y(axis, tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(&(self.write)(tick)),
            );
        }
        for (position, text) in &self.x_ticks {
            let x = self.x(*position);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 18.0,
                escape(text),
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}{}</text>",
            (LEFT + right) / 2.0,
            self.size.height - 6.0,
            escape(self.x_title),
            if axis.log { " · vertical axis logarithmic" } else { "" },
        );
    }

    fn draw_series(&self, svg: &mut String, axis: &Axis, series: &Series<'_>) {
        let at = |point: &(f64, f64, String)| (self.x(point.0), self.y(axis, point.1));
        let mut path = String::new();
        for point in &series.points {
            let (x, y) = at(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { " L" });
        }
        let _ = writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", series.class);
        for point in &series.points {
            let (x, y) = at(point);
            let marker = match series.sign {
                Sign::Round => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"),
                Sign::Square => {
                    format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>", x - 3.5, y - 3.5)
                }
                Sign::None => String::new(),
            };
            // the larger invisible circle is easier to hit
            let _ = writeln!(
                svg,
                "<g class=\"mark {}\"><title>{}</title>{marker}<circle class=\"hit\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"9\"/></g>",
                series.class,
                escape(&point.2)
            );
        }
        if let (Some(why), Some(last)) = (&series.broken, series.points.last()) {
            let (x, y) = at(last);
            let _ = writeln!(
                svg,
                "<g class=\"broken\"><title>{}</title><path d=\"M{:.1} {:.1} l12 12 m0 -12 l-12 12\"/></g>",
                escape(why),
                x - 6.0,
                y - 6.0,
            );
        }
    }

    /// The names stand to the right of the lines' ends, moved apart where those meet, each with a thin line to its own.
    fn draw_names(&self, svg: &mut String, axis: &Axis) {
        let mut names: Vec<_> = self
            .series
            .iter()
            .filter_map(|series| {
                let last = series.points.last()?;
                Some((self.x(last.0), self.y(axis, last.1), series))
            })
            .collect();
        names.sort_by(|a, b| a.1.total_cmp(&b.1));
        let ends: Vec<f64> = names.iter().map(|name| name.1).collect();
        let column = self.right() + 10.0;
        for ((x, end, series), y) in names.into_iter().zip(apart(&ends, TOP, self.bottom())) {
            if column - x > 24.0 || (y - end).abs() > 4.0 {
                let _ = writeln!(
                    svg,
                    "<path class=\"to-name {}\" d=\"M{:.1} {end:.1} L{:.1} {y:.1}\"/>",
                    series.class,
                    x + 6.0,
                    column - 3.0
                );
            }
            let _ = writeln!(
                svg,
                "<text class=\"name {}\" x=\"{column:.1}\" y=\"{:.1}\">{}{}</text>",
                series.class,
                y + 4.0,
                escape(series.name),
                if series.broken.is_some() { " ✕" } else { "" }
            );
        }
    }
}

/// Where names go that ought to stand at these heights (in order), so that none covers another and all are between `top` and
/// `bottom` as long as there is room.
fn apart(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut heights: Vec<f64> = Vec::with_capacity(wanted.len());
    for &y in wanted {
        heights.push(heights.last().map_or(y.max(top), |above| y.max(above + LINE)));
    }
    let mut below = bottom + LINE;
    for y in heights.iter_mut().rev() {
        *y = y.min(below - LINE);
        below = *y;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::super::count;
    use super::*;

    fn chart<'a>(series: Vec<Series<'a>>) -> Chart<'a> {
        Chart {
            title: "requests \"per\" second",
            size: NARROW,
            x_title: "connections",
            x_ticks: vec![(1.0, "10".into()), (2.0, "100".into())],
            write: count,
            series,
        }
    }

    fn line(name: &str) -> Series<'_> {
        let points = vec![(1.0, 10.0, "10 <ten>".to_owned()), (2.0, 12.0, "12".to_owned())];
        Series { name, class: "green", sign: Sign::Round, points, broken: None }
    }

    #[test]
    fn a_chart_shows_each_point_and_names_each_line() {
        let svg = chart(vec![line("one"), line("two")]).svg();
        assert_eq!(svg.matches("<title>").count(), 4);
        assert!(
            svg.contains("10 &lt;ten&gt;") && svg.contains("aria-label=\"requests &quot;per&quot; second\"")
        );
        // equal ends: the second name is moved off the first
        let heights: Vec<&str> = svg
            .lines()
            .filter(|line| line.contains("class=\"name"))
            .map(|l| l.split("y=").nth(1).unwrap())
            .collect();
        assert_eq!(heights.len(), 2);
        assert_ne!(heights[0].split('"').nth(1), heights[1].split('"').nth(1));
    }

    #[test]
    fn a_line_that_ends_too_early_says_why() {
        let svg = chart(vec![Series { broken: Some("no <memory>".into()), ..line("one") }]).svg();
        assert!(svg.contains("<g class=\"broken\"><title>no &lt;memory&gt;</title>"), "{svg}");
        assert!(svg.contains(">one ✕</text>"), "{svg}");
    }

    #[test]
    fn names_stand_apart_and_stay_inside() {
        assert_eq!(apart(&[10.0, 50.0], 0.0, 100.0), [10.0, 50.0]);
        assert_eq!(apart(&[10.0, 11.0, 12.0], 0.0, 100.0), [10.0, 24.0, 38.0]);
        assert_eq!(apart(&[98.0, 99.0, 100.0], 0.0, 100.0), [72.0, 86.0, 100.0]);
        assert_eq!(apart(&[-5.0], 0.0, 100.0), [0.0]);
        assert!(apart(&[], 0.0, 100.0).is_empty());
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        assert!(chart(Vec::new()).svg().contains("nothing measured"));
    }
}
