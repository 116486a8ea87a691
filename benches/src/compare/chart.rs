//! Line charts as inline SVG. Colours and fonts are the page's (CSS classes), so that they follow dark and light mode.

use std::fmt::Write;

/// A chart of a few series over one axis of positions.
pub(super) struct Chart<'a> {
    /// What is shown, for the heading and for readers who don't see it.
    pub(super) title: &'a str,
    /// Beneath the horizontal axis.
    pub(super) x_title: &'a str,
    /// Where on the horizontal axis what is written.
    pub(super) x_ticks: Vec<(f64, String)>,
    /// How a value is written.
    pub(super) write: fn(f64) -> String,
    /// The lines.
    pub(super) series: Vec<Series<'a>>,
}

/// One line of a chart.
pub(super) struct Series<'a> {
    /// Its name, written at its end.
    pub(super) name: &'a str,
    /// The CSS class that gives its colour.
    pub(super) class: &'a str,
    /// Square markers instead of round ones: a second sign beside the colour.
    pub(super) square: bool,
    /// Position, value and the text shown when the pointer rests on it.
    pub(super) points: Vec<(f64, f64, String)>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 66.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Values further apart than this, as a ratio, are shown on a logarithmic axis; others on a linear one from zero.
const LOG_FROM: f64 = 20.0;

impl Chart<'_> {
    /// The chart as an `<svg>` element.
    pub(super) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(self.title)
        );
        let values = || self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let Some(axis) = Axis::over(values()) else {
            let (x, y) = (WIDTH / 2.0, HEIGHT / 2.0);
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">nothing measured</text></svg>"
            );
            return svg;
        };
        self.draw_axes(&mut svg, &axis);
        let mut labels = Vec::new();
        for series in &self.series {
            self.draw_series(&mut svg, &axis, series);
            if let Some(last) = series.points.last() {
                labels.push((axis.y(last.1), self.x(last.0), series));
            }
        }
        // the names stand at the ends of their lines, moved apart where the lines meet
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut above = f64::NEG_INFINITY;
        for (y, x, series) in labels {
            let y = y.max(above + 14.0);
            above = y;
            let _ = writeln!(
                svg,
                "<text class=\"name {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                series.class,
                x + 9.0,
                y + 4.0,
                escape(series.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, position: f64) -> f64 {
        let positions = || self.x_ticks.iter().map(|tick| tick.0);
        let (low, high) = (positions().fold(f64::MAX, f64::min), positions().fold(f64::MIN, f64::max));
        let share = if high > low { (position - low) / (high - low) } else { 0.5 };
        LEFT + 8.0 + share * (WIDTH - LEFT - RIGHT - 16.0)
    }

    fn draw_axes(&self, svg: &mut String, axis: &Axis) {
        for tick in axis.ticks() {
            let y = axis.y(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                escape(&(self.write)(tick)),
            );
        }
        let bottom = HEIGHT - BOTTOM;
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
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}{}</text>",
            WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(self.x_title),
            if axis.log { " · vertical axis logarithmic" } else { "" },
        );
    }

    fn draw_series(&self, svg: &mut String, axis: &Axis, series: &Series<'_>) {
        let at = |point: &(f64, f64, String)| (self.x(point.0), axis.y(point.1));
        let mut path = String::new();
        for point in &series.points {
            let (x, y) = at(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { " L" });
        }
        let _ = writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", series.class);
        for point in &series.points {
            let (x, y) = at(point);
            let marker = if series.square {
                format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>", x - 3.5, y - 3.5)
            } else {
                format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")
            };
            // the larger invisible circle is easier to hit
            let _ = writeln!(
                svg,
                "<g class=\"mark {}\"><title>{}</title>{marker}<circle class=\"hit\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"11\"/></g>",
                series.class,
                escape(&point.2)
            );
        }
    }
}

/// The vertical axis: from `low` to `high`, both at ticks.
#[derive(Debug, PartialEq)]
struct Axis {
    log: bool,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that shows all values that are more than zero; `None` if there are none.
    fn over(values: impl Iterator<Item = f64>) -> Option<Axis> {
        let (mut low, mut high) = (f64::MAX, 0.0_f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high == 0.0 {
            return None;
        }
        if high / low > LOG_FROM {
            let (low, high) = (round_125(low, f64::floor), round_125(high, f64::ceil));
            return Some(Axis { log: true, low, high });
        }
        let step = linear_step(high);
        Some(Axis { log: false, low: 0.0, high: (high / step).ceil() * step })
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = linear_step(self.high);
            let number = (self.high / step).round() as u32;
            return (0..=number).map(|i| f64::from(i) * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let first = self.low.log10().floor() as i32 - 1;
        let factors: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        (first..)
            .flat_map(|exponent| factors.iter().map(move |factor| factor * 10_f64.powi(exponent)))
            .skip_while(|tick| *tick < self.low * 0.999)
            .take_while(|tick| *tick <= self.high * 1.001)
            .collect()
    }
}

/// About five steps up to `high`, each 1, 2 or 5 times a power of ten.
fn linear_step(high: f64) -> f64 {
    round_125(high / 5.0, f64::round)
}

/// The 1, 2 or 5 times a power of ten that is next to `value`, in the direction of `towards`.
fn round_125(value: f64, towards: fn(f64) -> f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
    // position of the value among the steps; a whole number if it is (nearly) one of them
    let below = steps.iter().rposition(|step| *step <= value * 1.000_001).unwrap_or(0).min(2);
    let position =
        below as f64 + ((value / steps[below]).ln() / (steps[below + 1] / steps[below]).ln()).max(0.0);
    let nearly = (position * 1e4).round() / 1e4;
    steps[(towards(nearly) as usize).min(3)]
}

/// Text as it may stand in HTML and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::measurement::count;
    use super::*;

    #[test]
    fn values_round_to_1_2_5() {
        for (value, down, near, up) in [
            (1.0, 1.0, 1.0, 1.0),
            (1.2, 1.0, 1.0, 2.0),
            (3.0, 2.0, 2.0, 5.0),
            (4.9, 2.0, 5.0, 5.0),
            (7.0, 5.0, 5.0, 10.0),
            (9.0, 5.0, 10.0, 10.0),
            (0.000_03, 0.000_02, 0.000_02, 0.000_05),
            (1e6, 1e6, 1e6, 1e6),
        ] {
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
            assert!(close(round_125(value, f64::floor), down), "{value} down");
            assert!(close(round_125(value, f64::round), near), "{value} near");
            assert!(close(round_125(value, f64::ceil), up), "{value} up");
        }
    }

    #[test]
    fn the_axis_is_linear_from_zero_unless_values_lie_far_apart() {
        let near = Axis::over([50.0, 87.0].into_iter()).unwrap();
        assert_eq!(near, Axis { log: false, low: 0.0, high: 100.0 });
        assert_eq!(near.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let far = Axis::over([10.0, 0.0, 30_000.0].into_iter()).unwrap();
        assert_eq!(far, Axis { log: true, low: 10.0, high: 50_000.0 });
        assert_eq!(far.ticks(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(far.y(10.0), HEIGHT - BOTTOM);
        assert_eq!(far.y(50_000.0), TOP);
        assert_eq!(Axis::over([0.0, f64::NAN].into_iter()), None);
    }

    #[test]
    fn a_chart_shows_each_point_and_names_each_line() {
        let points = vec![(1.0, 10.0, "10 <ten>".to_owned()), (2.0, 12.0, "12".to_owned())];
        let line = |name| Series { name, class: "green", square: false, points: points.clone() };
        let chart = Chart {
            title: "requests \"per\" second",
            x_title: "connections",
            x_ticks: vec![(1.0, "10".into()), (2.0, "100".into())],
            write: count,
            series: vec![line("one"), line("two")],
        };
        let svg = chart.svg();
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
    fn a_chart_of_nothing_says_so() {
        let chart = Chart { title: "t", x_title: "x", x_ticks: Vec::new(), write: count, series: Vec::new() };
        assert!(chart.svg().contains("nothing measured"));
    }
}
