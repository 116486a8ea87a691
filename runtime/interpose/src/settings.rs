//! Which calls are cooperative, and how those are that can be so in more than one way.
//!
//! Set before `main` by the environment variable `GREENLET_INTERPOSE`, and at any time by [`configure`] and [`set`], for the whole
//! process. A call that is switched off is the plain one in greenlets too.
//!
//! # The language
//! Words with commas or spaces between them, each of which changes what those before it have said:
//!
//! | word | meaning |
//! |---|---|
//! | `all`, `none` | all calls (as it is to begin with), no call |
//! | `time`, `recv` | this group, or this call; as the first of its kind in the text it means these *only* |
//! | `-futex`, `-getaddrinfo` | without this group or call |
//! | `+recv` | and this group or call |
//! | `files=pool`, `files=through` | see [`Files`] |
//! | `stdout=park`, `stdout=through` | see [`Stdout`] |
//!
//! So `-futex,-getaddrinfo` is everything but these, `time,streams` these alone, `none` nothing. A wrong word in the environment
//! is told on standard error, together with what was probably meant, and the others hold.
//!
//! Reading is one relaxed load, done in greenlets only; nothing here allocates or locks, except for an error's text.

use std::error::Error;
use std::ffi::{CStr, c_char};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::calls::Call;
use crate::raw::syscall;

const VARIABLE: &str = "GREENLET_INTERPOSE";
const WORDS: usize = Call::ALL.len().div_ceil(64);

static ON: [AtomicU64; WORDS] = [const { AtomicU64::new(!0) }; WORDS];
static FILES_IN_POOL: AtomicBool = AtomicBool::new(false);
static STDOUT_PARKS: AtomicBool = AtomicBool::new(false);

/// Where files on disk are read, written, opened and flushed, which the kernel does not do without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// In place: the thread waits for the disk, and its greenlets with it. What is in the page cache is there in about a
    /// microsecond that way.
    #[default]
    Through,
    /// On the threads of [`unblock`](greenlet::unblock): no greenlet waits for another's disk, but each call costs two switches of
    /// threads. On a busy machine with two cores, 4 KiB from the page cache took 70 to 85 µs instead of 1.5, and opening and closing a
    /// file 62 µs instead of 12. For network file systems, slow disks, and much `fsync`.
    Pool,
}

/// What becomes of writes to standard output and standard error (descriptors 1 and 2) that have to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdout {
    /// The thread waits. std holds a lock around them that lets the thread that has it in again: a greenlet that is parked in
    /// `println!` would let others of its thread write in the midst of its line.
    #[default]
    Through,
    /// The greenlet waits, as for any other descriptor.
    Park,
}

/// Whether a call is cooperative.
#[inline]
pub fn is_on(call: Call) -> bool {
    let index = call as usize;
    ON[index / 64].load(Ordering::Relaxed) & (1 << (index % 64)) != 0
}

/// Switches a call on or off. Calls under way end as they have begun.
///
/// ```
/// use greenlet_interpose::{Call, is_on, set};
///
/// set(Call::getaddrinfo, false);
/// assert!(!is_on(Call::getaddrinfo) && is_on(Call::recv));
/// ```
pub fn set(call: Call, on: bool) {
    let (index, bit) = (call as usize / 64, 1 << (call as usize % 64));
    if on {
        ON[index].fetch_or(bit, Ordering::Relaxed);
    } else {
        ON[index].fetch_and(!bit, Ordering::Relaxed);
    }
}

/// What is done about files on disk.
#[inline]
pub fn files() -> Files {
    if FILES_IN_POOL.load(Ordering::Relaxed) { Files::Pool } else { Files::Through }
}

/// Changes what is done about files on disk.
pub fn set_files(files: Files) {
    FILES_IN_POOL.store(files == Files::Pool, Ordering::Relaxed);
}

/// What is done about standard output and error.
#[inline]
pub fn stdout() -> Stdout {
    if STDOUT_PARKS.load(Ordering::Relaxed) { Stdout::Park } else { Stdout::Through }
}

/// Changes what is done about standard output and error.
pub fn set_stdout(stdout: Stdout) {
    STDOUT_PARKS.store(stdout == Stdout::Park, Ordering::Relaxed);
}

/// Sets several at once, in [the language](self#the-language) of the environment variable. With an error nothing is changed.
///
/// # Errors
/// The first word that means nothing.
///
/// ```
/// use greenlet_interpose::{Call, configure, is_on};
///
/// configure("-names, files=pool")?;
/// assert!(!is_on(Call::getaddrinfo) && is_on(Call::recv));
/// assert_eq!(configure("-getadrinfo").unwrap_err().suggestion(), Some("getaddrinfo"));
/// # Ok::<(), greenlet_interpose::settings::UnknownWord>(())
/// ```
pub fn configure(text: &str) -> Result<(), UnknownWord> {
    let mut wrong = None;
    let state = State::now().after(text.as_bytes(), &mut |word| {
        wrong.get_or_insert_with(|| UnknownWord {
            word: String::from_utf8_lossy(word).into_owned(),
            suggestion: nearest(word),
        });
    });
    match wrong {
        Some(wrong) => Err(wrong),
        None => {
            state.set();
            Ok(())
        }
    }
}

/// What is set now, in [the language](self#the-language) that [`configure`] and the environment variable take.
///
/// ```
/// use greenlet_interpose::{configure, settings};
///
/// configure("-time,-recv")?;
/// assert_eq!(settings::describe().to_string(), "all,-time,-recv,files=through,stdout=through");
/// # Ok::<(), greenlet_interpose::settings::UnknownWord>(())
/// ```
pub fn describe() -> impl fmt::Display + fmt::Debug {
    State::now()
}

/// A word that names no call, no group and no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    word: String,
    suggestion: Option<&'static str>,
}

impl UnknownWord {
    /// The word.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// What was probably meant.
    pub fn suggestion(&self) -> Option<&'static str> {
        self.suggestion
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_unknown(f, &self.word, self.suggestion)
    }
}

impl Error for UnknownWord {}

fn write_unknown(f: &mut impl fmt::Write, word: &str, suggestion: Option<&str>) -> fmt::Result {
    write!(f, "'{word}' is no call that is interposed, no group of calls and no policy")?;
    match suggestion {
        Some(suggestion) => write!(f, "; did you mean '{suggestion}'?"),
        None => Ok(()),
    }
}

/// Takes the settings from the environment.
///
/// # Safety
/// `environment` is null, or an array of C strings that ends with null.
pub(crate) unsafe fn read(mut environment: *const *const c_char) {
    // SAFETY: the caller's promise.
    unsafe {
        while !environment.is_null() && !(*environment).is_null() {
            let text = CStr::from_ptr(*environment).to_bytes();
            if let Some(value) =
                text.strip_prefix(VARIABLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            {
                State::now().after(value, &mut complain).set();
                return;
            }
            environment = environment.add(1);
        }
    }
}

/// Says on standard error that a word is wrong, without allocating.
#[cold]
fn complain(word: &[u8]) {
    struct Line([u8; 256], usize);
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = &mut self.0[self.1..];
            let count = text.len().min(room.len());
            room[..count].copy_from_slice(&text.as_bytes()[..count]);
            self.1 += count;
            Ok(())
        }
    }
    let mut line = Line([0; 256], 0);
    let shown = &word[..word.len().min(64)];
    let shown = shown.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    // It always takes it.
    let _ = line.write_str(VARIABLE).and_then(|()| line.write_str(": "));
    let _ = write_unknown(&mut line, shown, nearest(word)).and_then(|()| line.write_str("\n"));
    // SAFETY: the kernel reads what was written above.
    unsafe { syscall!(SYS_write, 2, line.0.as_ptr(), line.1) };
}

/// All settings at once.
#[derive(Clone, Copy, Debug)]
struct State {
    on: [u64; WORDS],
    files: Files,
    stdout: Stdout,
}

impl State {
    fn now() -> State {
        let on = std::array::from_fn(|index| ON[index].load(Ordering::Relaxed));
        State { on, files: files(), stdout: stdout() }
    }

    fn set(&self) {
        for (index, bits) in self.on.iter().enumerate() {
            ON[index].store(*bits, Ordering::Relaxed);
        }
        set_files(self.files);
        set_stdout(self.stdout);
    }

    fn has(&self, call: Call) -> bool {
        self.on[call as usize / 64] & (1 << (call as usize % 64)) != 0
    }

    fn put(&mut self, call: Call, on: bool) {
        let (word, bit) = (&mut self.on[call as usize / 64], 1 << (call as usize % 64));
        *word = if on { *word | bit } else { *word & !bit };
    }

    /// What they are once `text` has been heard; `wrong` is told each word that means nothing.
    fn after(mut self, text: &[u8], wrong: &mut dyn FnMut(&[u8])) -> State {
        let is_gap = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        // Whether something was said about calls.
        let mut begun = false;
        for word in text.split(is_gap).filter(|word| !word.is_empty()) {
            let (sign, name) = match word {
                [sign @ (b'+' | b'-'), name @ ..] => (Some(*sign), name),
                name => (None, name),
            };
            let named = |call: &&Call| call.name().as_bytes() == name || call.group().as_bytes() == name;
            match word {
                b"all" => self.on = [!0; WORDS],
                b"none" => self.on = [0; WORDS],
                b"files=through" => self.files = Files::Through,
                b"files=pool" => self.files = Files::Pool,
                b"stdout=through" => self.stdout = Stdout::Through,
                b"stdout=park" => self.stdout = Stdout::Park,
                _ if !Call::ALL.iter().any(|call| named(&call)) => wrong(word),
                _ => {
                    if sign.is_none() && !begun {
                        self.on = [0; WORDS];
                    }
                    let calls = Call::ALL.iter().filter(named);
                    calls.for_each(|call| self.put(*call, sign != Some(b'-')));
                }
            }
            begun |= !word.contains(&b'=');
        }
        self
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all")?;
        for group in Call::GROUPS {
            let members = || Call::ALL.iter().filter(|call| call.group() == *group);
            if members().all(|call| !self.has(*call)) {
                write!(f, ",-{group}")?;
                continue;
            }
            for call in members().filter(|call| !self.has(**call)) {
                write!(f, ",-{}", call.name())?;
            }
        }
        let files = if self.files == Files::Pool { "pool" } else { "through" };
        let stdout = if self.stdout == Stdout::Park { "park" } else { "through" };
        write!(f, ",files={files},stdout={stdout}")
    }
}

/// The word that is most like this one, if any is.
fn nearest(word: &[u8]) -> Option<&'static str> {
    const POLICIES: [&str; 6] =
        ["all", "none", "files=through", "files=pool", "stdout=through", "stdout=park"];
    let name = word.strip_prefix(b"-").or(word.strip_prefix(b"+")).unwrap_or(word);
    let names = Call::ALL.iter().map(|call| call.name());
    let all = Call::GROUPS.iter().copied().chain(names).chain(POLICIES);
    let (distance, nearest) = all
        .map(|other| (distance(name, other.as_bytes()), other))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, other)| *distance <= 1 + other.len() / 5)?;
    (distance < name.len()).then_some(nearest)
}

/// How many letters are to be put in, left out, replaced or swapped with their neighbour to make one word of the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const LONGEST: usize = 40;
    if a.len() >= LONGEST || b.len() >= LONGEST {
        return usize::MAX;
    }
    // The distances of the first letters of `a`, one fewer, and two fewer, to all beginnings of `b`.
    let mut rows = [[0; LONGEST]; 3];
    rows[0] = std::array::from_fn(|column| column);
    for i in 1..=a.len() {
        let [before, earlier] = [rows[0], rows[1]];
        let mut row = [i; LONGEST];
        for j in 1..=b.len() {
            let replaced = before[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(before[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(earlier[j - 2] + 1);
            }
        }
        rows = [row, before, earlier];
    }
    rows[0][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Result<String, String> {
        let start = State { on: [!0; WORDS], files: Files::Through, stdout: Stdout::Through };
        let mut wrong = None;
        let state = start.after(text.as_bytes(), &mut |word| {
            wrong.get_or_insert_with(|| String::from_utf8_lossy(word).into_owned());
        });
        match wrong {
            Some(wrong) => Err(wrong),
            None => Ok(state.to_string().replace(",files=through,stdout=through", "")),
        }
    }

    fn only(names: &[&str]) -> String {
        let mut state = State { on: [0; WORDS], files: Files::Through, stdout: Stdout::Through };
        let calls =
            Call::ALL.iter().filter(|call| names.contains(&call.name()) || names.contains(&call.group()));
        calls.for_each(|call| state.put(*call, true));
        state.to_string().replace(",files=through,stdout=through", "")
    }

    #[test]
    fn each_word_changes_what_those_before_it_have_said() {
        assert_eq!(after("").unwrap(), "all");
        assert_eq!(after("all").unwrap(), "all");
        assert_eq!(after("none").unwrap(), only(&[]));
        assert_eq!(after("-futex,-getaddrinfo").unwrap(), "all,-futex,-getaddrinfo");
        assert_eq!(after("-names").unwrap(), "all,-names");
        assert_eq!(after("-names,getaddrinfo").unwrap(), after("-names +getaddrinfo").unwrap());
        assert_eq!(after("time,streams").unwrap(), only(&["time", "streams"]));
        assert_eq!(after(" recv ,, -recv, send").unwrap(), only(&["send"]));
        assert_eq!(after("none,+recv").unwrap(), only(&["recv"]));
        assert_eq!(
            after("files=pool,time").unwrap(),
            format!("{},files=pool,stdout=through", only(&["time"]))
        );
        assert_eq!(after("stdout=park").unwrap(), "all,files=through,stdout=park");
    }

    #[test]
    fn what_is_described_can_be_set_again() {
        for text in ["all", "none", "-names,-recv", "time,streams", "none,+poll"] {
            let described = after(text).unwrap();
            assert_eq!(after(&described).unwrap(), described);
        }
    }

    #[test]
    fn a_wrong_word_is_named_with_the_one_that_was_meant() {
        assert_eq!(after("time,tmie"), Err("tmie".to_owned()));
        assert_eq!(nearest(b"tmie"), Some("time"));
        assert_eq!(nearest(b"-getadrinfo"), Some("getaddrinfo"));
        assert_eq!(nearest(b"files=poll"), Some("files=pool"));
        assert_eq!(nearest(b"pthread_mutex_loc"), Some("pthread_mutex_lock"));
        assert_eq!(nearest(b"watermelon"), None);
        assert_eq!(nearest(b"x"), None);
        assert_eq!(nearest(&[b'x'; 300]), None);
    }
}
