//! Numbers as people read them.

/// `1234567.0` as `1.23 M`.
pub(crate) fn count(value: f64) -> String {
    scaled(value, &[(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")])
}

/// Bytes as `1.23 MB` (10^6).
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")])
}

/// Seconds as `1.23 ms`.
pub(crate) fn seconds(value: f64) -> String {
    scaled(value, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")])
}

/// Three significant digits in the largest unit that leaves one before the point.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let mut chosen = units[units.len() - 1];
    for unit in units.iter().rev() {
        // 999.6 of a unit would be written as 1000
        if value >= unit.0 * 0.9995 {
            chosen = *unit;
        }
    }
    let number = value / chosen.0;
    let decimals = match number {
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", chosen.1)
}

/// `12345` as `12,345`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (999.4, "999"),
            (999.6, "1 k"),
            (1234.0, "1.23 k"),
            (20_000.0, "20 k"),
            (123_456.0, "123 k"),
            (1_999_999.0, "2 M"),
        ] {
            assert_eq!(count(value), expected, "{value}");
        }
        assert_eq!(seconds(0.1), "100 ms");
        assert_eq!(seconds(0.000_021_5), "21.5 µs");
        assert_eq!(seconds(2.0), "2 s");
        assert_eq!(bytes(4_138.0), "4.14 kB");
        assert_eq!(bytes(512.0), "512 B");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([1, 999, 1000, 1_234_567].map(thousands), ["1", "999", "1,000", "1,234,567"]);
    }
}
