//! What log lines say of the request under which they are made, without being told.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

ctxlocal::ctxlocal! {
    copied static CONTEXT: RefCell<Context> = RefCell::default();
}

/// A request's id and fields as they are at a moment, made by [`context`]. It may go to any thread.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Shared by all copies, so that it is one and the same whoever asks for it first.
    id: Arc<OnceLock<Arc<str>>>,
    fields: Vec<(Cow<'static, str>, Arc<str>)>,
}

impl Context {
    /// Runs `f` with this context in place of its own. What `f` adds to it is gone afterwards.
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        CONTEXT.with_value(RefCell::new(self.clone()), f)
    }
}

/// Has every line that the [`ErrorLog`](super::ErrorLog) gets under the present request say `name=value`, wherever it is
/// made: by the application, a library that uses the `log` facade, or the server when the handler fails. A field of that name
/// that there is already gets the new value.
///
/// The fields end with the request. Green threads that it spawns see those there are by then if they are spawned with
/// [`Locals::Copied`](greenlet::Locals::Copied) (or `Shared`), and have its id, too; for all others, and for thread pools, there is [`context`].
/// Outside of a request the fields are those of the green thread, or thread.
///
/// The value may be anything: what could be taken for another field or another line is escaped.
///
/// ```
/// greenserve::log::field("user", 17);
/// log::warn!("no such account"); // [2026-11-21 07:13:43 +0000] [1234] [WARNING] [user=17] no such account
/// ```
pub fn field(name: impl Into<Cow<'static, str>>, value: impl Display) {
    let (name, value) = (name.into(), Arc::from(value.to_string()));
    CONTEXT.with_borrow_mut(|context| match context.fields.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => context.fields.push((name, value)),
    });
}

/// The id of the present request. Its log lines say it from now on.
///
/// It is made when it is first asked for: 16 hexadecimal digits that no other request has, in this process or in others. If
/// `--request-id-header` names a header, a well-formed value of that is the id, from the request's beginning.
///
/// A handler that tells its client does so by a header of its own:
///
/// ```
/// use greenserve::{IntoResponse, Request, Response};
///
/// fn app(_req: Request) -> Response {
///     ([("x-request-id", &*greenserve::log::request_id())], "done\n").into_response()
/// }
/// ```
pub fn request_id() -> Arc<str> {
    let id = CONTEXT.with_borrow(|context| Arc::clone(&context.id));
    Arc::clone(id.get_or_init(|| new_id().into()))
}

/// The id of the present request, if somebody has asked for it or it was sent.
pub(super) fn known_request_id() -> Option<Arc<str>> {
    CONTEXT.peek(|context| context.borrow().id.get().cloned()).flatten()
}

/// The id, under the name `request_id` and if there is one by now, and the fields of the present request in the order in
/// which they came: for loggers other than ours.
pub fn fields() -> impl Iterator<Item = (Cow<'static, str>, Arc<str>)> {
    let Context { id, fields } = context();
    let id = id.get().map(|id| (Cow::Borrowed("request_id"), Arc::clone(id)));
    id.into_iter().chain(fields)
}

/// The present context, to be taken along to where it would not come by itself.
///
/// ```
/// greenserve::log::field("user", "ann");
/// let context = greenserve::log::context();
/// let job = greenlet::unblock(move || context.within(|| greenserve::log::fields().count()));
/// assert_eq!(job, 1);
/// ```
pub fn context() -> Context {
    CONTEXT.peek(|context| context.borrow().clone()).unwrap_or_default()
}

/// Makes what the client or a proxy has sent the id, if it is fit to be one.
#[cold]
pub(crate) fn adopt_request_id(sent: &[u8]) {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=~@".contains(byte);
    if let (1..=LONGEST, true, Ok(id)) = (sent.len(), sent.iter().all(fits), std::str::from_utf8(sent)) {
        // It is the first thing that happens under a request.
        let _ = CONTEXT.with_borrow(|context| context.id.set(id.into()));
    }
}

/// No id that is sent may be longer.
const LONGEST: usize = 128;

fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A fork has the same keys and the same count, but neither this number nor, if that is used again, this time.
    let key = (COUNT.fetch_add(1, Ordering::Relaxed), process::id(), SystemTime::now());
    format!("{:016x}", RandomState::new().hash_one(key))
}

/// Calls `f` with the id, if there is one by now, and the fields; or not at all if a value's `Display` logs.
pub(super) fn with(f: impl FnOnce(Option<&str>, &[(Cow<'static, str>, Arc<str>)])) {
    CONTEXT.peek(|context| {
        if let Ok(context) = context.try_borrow() {
            f(context.id.get().map(|id| &**id), &context.fields);
        }
    });
}

/// Appends `[id name=value] ` if there is anything to say.
pub(super) fn write(line: &mut Vec<u8>) {
    with(|id, fields| {
        if id.is_none() && fields.is_empty() {
            return;
        }
        line.push(b'[');
        if let Some(id) = id {
            line.extend_from_slice(id.as_bytes());
            line.push(b' ');
        }
        for (name, value) in fields {
            write_value(line, name);
            line.push(b'=');
            write_value(line, value);
            line.push(b' ');
        }
        line.pop();
        line.extend_from_slice(b"] ");
    });
}

/// Puts quotes around what is not one plain word, and escapes what would end them or the line.
fn write_value(line: &mut Vec<u8>, value: &str) {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"\\=[]".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        line.extend_from_slice(value.as_bytes());
        return;
    }
    line.push(b'"');
    for c in value.chars() {
        // writing to a Vec does not fail
        let _ = match c {
            '"' | '\\' => write!(line, "\\{c}"),
            c if c.is_control() => write!(line, "\\x{:02x}", u32::from(c)),
            c => write!(line, "{c}"),
        };
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn lines_say_the_id_and_the_fields_and_nothing_if_there_is_nothing() {
        ctxlocal::scope(|| {
            assert_eq!(written(), "");
            field("user", 17);
            field("tenant", "a.example");
            field("user", 18);
            assert_eq!(written(), "[user=18 tenant=a.example] ");
            let id = request_id();
            assert_eq!((id.len(), &id), (16, &request_id()));
            assert_eq!(written(), format!("[{id} user=18 tenant=a.example] "));
            let names: Vec<_> = fields().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(names, [format!("request_id={id}"), "user=18".into(), "tenant=a.example".into()]);
            ctxlocal::scope(|| assert_ne!(request_id(), id));
        });
    }

    #[test]
    fn a_value_forges_neither_a_field_nor_a_line() {
        for (value, expected) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("1] [ERROR] b", r#""1] [ERROR] b""#),
            ("1 admin=yes", r#""1 admin=yes""#),
            ("admin=yes", r#""admin=yes""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("a\n[2026] b\u{1b}\u{85}", r#""a\x0a[2026] b\x1b\x85""#),
            ("ü", "ü"),
        ] {
            ctxlocal::scope(|| {
                field("v", value);
                assert_eq!(written(), format!("[v={expected}] "));
            });
        }
    }

    #[test]
    fn only_a_well_formed_id_is_adopted() {
        ctxlocal::scope(|| {
            for bad in [&b""[..], b"a b", b"a]", b"a\n", b"\xff", &[b'x'; LONGEST + 1]] {
                adopt_request_id(bad);
                assert_eq!(written(), "");
            }
            adopt_request_id(b"7f-3a.B_c");
            assert_eq!((written().as_str(), &*request_id()), ("[7f-3a.B_c] ", "7f-3a.B_c"));
        });
    }

    #[test]
    fn all_copies_of_a_context_have_the_same_id_whoever_asks_first() {
        ctxlocal::scope(|| {
            field("user", 1);
            let context = context();
            let there = std::thread::spawn(move || context.within(request_id)).join().unwrap();
            assert_eq!(request_id(), there);
        });
    }

    #[test]
    fn a_context_goes_along_to_another_thread() {
        let context = ctxlocal::scope(|| {
            field("user", 1);
            context()
        });
        let there = move || {
            let inside = context.within(|| {
                field("part", 2);
                written()
            });
            (inside, written())
        };
        assert_eq!(std::thread::spawn(there).join().unwrap(), ("[user=1 part=2] ".to_owned(), String::new()));
    }
}
