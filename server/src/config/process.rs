//! Values about the process itself: who it is, where it is, what it is called. And how many of them there are.

use std::fmt;

use super::settings::MOST_WORKERS;
use super::value::{Value, count};

/// A user or a group, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By a name, which is looked up when the server starts.
    Name(String),
    /// By its number.
    Id(u32),
}

impl fmt::Display for Account {
    /// As it would be typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Name(name) => f.write_str(name),
            Account::Id(id) => id.fmt(f),
        }
    }
}

/// A name or a number; nothing for an empty value.
pub(super) fn account(text: &str) -> Result<Option<Account>, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        "" => Ok(None),
        // The largest stands for "as it is" where the kernel is told.
        number if is_number => match number.parse() {
            Ok(id) if id < u32::MAX => Ok(Some(Account::Id(id))),
            _ => Err("expected a name, or a number below 4294967295".to_owned()),
        },
        name if name.contains([':', '/', '\n', '\0']) || name.starts_with('-') => {
            Err("expected a name or a number".to_owned())
        }
        name => Ok(Some(Account::Name(name.to_owned()))),
    }
}

/// Bits that the permissions of a new file don't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umask(pub u32);

impl fmt::Display for Umask {
    /// In octal, as it is usually written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            mask => write!(f, "{mask:#05o}"),
        }
    }
}

/// As gunicorn reads it, and C: octal behind a 0 (or 0o), hexadecimal behind 0x, decimal otherwise.
pub(super) fn umask(text: &str) -> Result<Umask, String> {
    let text = text.trim();
    let digits =
        |prefix: &str, base| text.strip_prefix(prefix).map(|digits| u32::from_str_radix(digits, base));
    let number =
        digits("0o", 8).or_else(|| digits("0x", 16)).unwrap_or_else(|| match text.strip_prefix('0') {
            Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8),
            _ => text.parse(),
        });
    match number {
        // `parse` takes a leading +
        Ok(mask @ 0..=0o777) if !text.contains('+') => Ok(Umask(mask)),
        _ => Err("expected bits of permissions, from 0 to 0777, such as 007".to_owned()),
    }
}

/// Variables of the environment, in order; a later one of the same name wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(pub Vec<(String, String)>);

/// NAME=VALUE in each line.
pub(super) fn environment(text: &str) -> Result<Environment, String> {
    let parse = |line: &str| match line.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !line.contains('\0') => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    };
    text.lines().filter(|line| !line.is_empty()).map(parse).collect::<Result<_, _>>().map(Environment)
}

/// Nothing for an empty value.
pub(super) fn optional_text(text: &str) -> Result<Option<String>, String> {
    match text.contains(char::is_control) {
        true => Err("expected a text without control characters".to_owned()),
        false => Ok((!text.is_empty()).then(|| text.to_owned())),
    }
}

/// A number, or `auto`: as many as there are CPUs to be had.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.trim() {
        // Where it can't be found out one is right.
        "auto" => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)),
        number => count(number, 0..=MOST_WORKERS).map_err(|expected| format!("{expected}, or auto")),
    }
}

impl Value for Option<Account> {
    fn show(&self) -> String {
        self.as_ref().map(Account::to_string).unwrap_or_default()
    }
}

impl Value for Option<String> {
    fn show(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

impl Value for Umask {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Environment {
    fn show(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal_behind_a_zero_and_shown_so() {
        for (text, mask) in
            [("0", 0), ("022", 0o22), ("0o77", 0o77), ("0x12", 0o22), ("18", 0o22), ("0777", 0o777)]
        {
            let read = umask(text).unwrap();
            assert_eq!(read, Umask(mask), "{text}");
            assert_eq!(umask(&read.to_string()), Ok(read), "{text}");
        }
        for text in ["", "8x", "08", "0o", "-1", "+7", "01000", "rwx"] {
            assert!(umask(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_is_a_name_or_a_number() {
        assert_eq!(account(""), Ok(None));
        assert_eq!(account("www-data"), Ok(Some(Account::Name("www-data".to_owned()))));
        assert_eq!(account("65534"), Ok(Some(Account::Id(65534))));
        for text in ["4294967295", "99999999999", "a:b", "-x", "a\nb"] {
            assert!(account(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn auto_means_one_worker_at_least() {
        assert!(workers("auto").unwrap() >= 1);
        assert_eq!(workers("3"), Ok(3));
        assert!(workers("many").unwrap_err().ends_with("or auto"));
    }

    #[test]
    fn a_variable_has_a_name_and_may_hold_anything_else() {
        let read = environment("A=1,2\nB=\nC=x=y").unwrap();
        let expected = [("A", "1,2"), ("B", ""), ("C", "x=y")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(read.0, expected);
        for text in ["A", "=1", "A=1\nB"] {
            assert!(environment(text).is_err(), "{text}");
        }
    }
}
