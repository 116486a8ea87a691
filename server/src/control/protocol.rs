//! The lines of a session.
//!
//! A command is a line of words, `show workers`, or gunicorn's form of it, `{"id": 1, "command": "show workers"}`, to which
//! `"args": [..]` may add words. Its answer is a line, too: `{"id": 1, "status": "ok", "data": {..}}` or `{"id": 1, "status":
//! "error", "error": "in words"}`. The id is the one that came with the command; 0 if none did.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::Command;

/// The longest line of a command, in bytes.
pub(super) const LONGEST: usize = 4096;

/// One command, and the id by which its answer is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) command: Result<Command, String>,
    /// As it came, for the log.
    pub(crate) words: String,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok { data: Value },
    Error { error: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(default)]
    id: u64,
    command: String,
    #[serde(default)]
    args: Vec<Value>,
}

impl Request {
    /// A line without its end.
    pub(super) fn read(line: &[u8]) -> Request {
        let failed = |what: String| Request { id: 0, command: Err(what), words: String::new() };
        let Ok(text) = std::str::from_utf8(line) else { return failed("a command is UTF-8".to_owned()) };
        let (id, words) = if text.trim_start().starts_with('{') {
            match serde_json::from_str::<Envelope>(text) {
                Ok(Envelope { id, command, args }) => {
                    let words = args.into_iter().map(|arg| match arg {
                        Value::String(word) => word,
                        other => other.to_string(),
                    });
                    (id, std::iter::once(command).chain(words).collect::<Vec<_>>().join(" "))
                }
                Err(error) => return failed(format!("not the JSON of a command: {error}")),
            }
        } else {
            (0, text.trim().to_owned())
        };
        Request { id, command: Command::parse(words.split_whitespace()), words }
    }
}

impl Answer {
    /// The line, with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        // Maps have strings for keys and there are no other ways for this to fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl From<Result<Value, String>> for Outcome {
    fn from(result: Result<Value, String>) -> Outcome {
        match result {
            Ok(data) => Outcome::Ok { data },
            Err(error) => Outcome::Error { error },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::Show;

    #[test]
    fn a_command_comes_as_words_or_as_json() {
        for line in [
            &b"show workers"[..],
            b"  show\tworkers \r",
            br#"{"command": "show workers"}"#,
            br#"{"command": "show", "args": ["workers"], "else": 1}"#,
        ] {
            let request = Request::read(line);
            assert_eq!(request.command, Ok(Command::Show(Show::Workers)), "{}", line.escape_ascii());
            assert_eq!(request.id, 0);
        }
        let request = Request::read(br#"{"id": 7, "command": "worker add", "args": [2]}"#);
        assert_eq!((request.id, request.command), (7, Ok(Command::Add(2))));
    }

    #[test]
    fn garbage_is_answered_in_words() {
        for line in [&b"\xff\xfe"[..], b"{", b"{}", br#"{"command": 1}"#, b"", b"GET / HTTP/1.1"] {
            assert!(Request::read(line).command.is_err(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_answer_is_one_line_that_can_be_read_again() {
        let told = Answer { id: 3, outcome: Ok(json!({"a": "b\nc"})).into() };
        let line = told.line();
        assert_eq!(line, b"{\"id\":3,\"status\":\"ok\",\"data\":{\"a\":\"b\\nc\"}}\n");
        assert_eq!(serde_json::from_slice::<Answer>(&line).unwrap().outcome, told.outcome);
        let failed = Answer { id: 0, outcome: Err("no".to_owned()).into() };
        assert_eq!(failed.line(), b"{\"id\":0,\"status\":\"error\",\"error\":\"no\"}\n");
    }
}
