//! The vertical axis of a chart: where it begins and ends, and where its ticks are.

/// Values further apart than this, as a ratio, are shown on a logarithmic axis; others on a linear one from zero.
const LOG_FROM: f64 = 20.0;

/// The vertical axis: from `low` to `high`, both at ticks.
#[derive(Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) log: bool,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that shows all values that are more than zero; `None` if there are none.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Option<Axis> {
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

    /// How far up from the lower end a value stands, as a share of the whole.
    pub(super) fn share(&self, value: f64) -> f64 {
        if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        }
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = linear_step(self.high);
            let number = (self.high / step).round() as u32;
            return (0..=number).map(|i| f64::from(i) * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let first = self.low.log10().floor() as i32 - 1;
        let factors: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
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

#[cfg(test)]
mod tests {
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
        assert_eq!(far.share(10.0), 0.0);
        assert_eq!(far.share(50_000.0), 1.0);
        assert_eq!(Axis::over([0.0, f64::NAN].into_iter()), None);
    }
}
