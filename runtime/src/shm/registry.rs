//! Who takes part: a table of processes in shared memory, and who of them lives.
//!
//! A process is known to the others by a [`Token`]: its place in the table and how often that place has been given away, so that
//! a successor in the same place is never taken for it. One word of a place says which process has it: number and start time, which
//! together no other process ever has.

use std::fs;
use std::io;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;

use super::map::{Layout, Mapping};

/// How many processes may share an object at the same time.
pub(super) const MAX_PROCESSES: usize = 256;

/// Of a token, so many bits are the place.
const PLACE_BITS: u32 = MAX_PROCESSES.trailing_zeros();
const GENERATIONS: u32 = u32::MAX >> PLACE_BITS;

/// One process's name among the others; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    fn new(place: usize, generation: u32) -> Token {
        Token(generation << PLACE_BITS | place as u32)
    }

    /// The token that these bits are; zero is nobody's.
    pub(super) fn from_bits(bits: u32) -> Option<Token> {
        (bits != 0).then_some(Token(bits))
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn place(self) -> usize {
        self.0 as usize % MAX_PROCESSES
    }

    pub(super) fn generation(self) -> u32 {
        self.0 >> PLACE_BITS
    }

    /// The token of who had this place at that time.
    pub(super) fn of(place: usize, generation: u32) -> Option<Token> {
        (generation != 0).then(|| Token::new(place, generation))
    }
}

/// The table.
#[repr(C)]
pub(super) struct Registry {
    /// Places from here on have never been given away.
    used: AtomicU32,
    places: [Place; MAX_PROCESSES],
}

// SAFETY: atomics only, all of which may be zero.
unsafe impl Layout for Registry {}

/// A cache line for each process: its bell is rung by others.
#[repr(C, align(64))]
struct Place {
    /// An [`Identity`]; zero when nobody has the place, or it is known that who had it has ended.
    identity: AtomicU64,
    /// How often the place has been given away, modulo 2^32; its lower bits are the tokens'.
    given: AtomicU32,
    /// Changes with each ring; a futex.
    bell: AtomicU32,
}

impl Registry {
    /// The table that this process shares with its parent and its children, made with the first object.
    pub(super) fn get() -> io::Result<&'static Registry> {
        static REGISTRY: OnceLock<&'static Registry> = OnceLock::new();
        if let Some(registry) = REGISTRY.get() {
            return Ok(registry);
        }
        let made = Mapping::<Registry>::new()?;
        // One that comes second is unmapped.
        let mut made = Some(made);
        let registry = REGISTRY.get_or_init(|| made.take().expect("it is made once").leak());
        Ok(registry)
    }

    /// Gives the calling process a place.
    pub(super) fn enter(&self) -> io::Result<Token> {
        let own = Identity::own();
        for (index, place) in self.places.iter().enumerate() {
            let there = place.identity.load(Ordering::SeqCst);
            if there != 0 && !Identity(there).has_ended() {
                continue;
            }
            // Who is killed right here has the place without a token of its own: its predecessor's counts as alive for as long
            // as it does, which is over.
            if place.identity.compare_exchange(there, own.0, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                continue;
            }
            let mut generation = 0;
            while generation == 0 {
                generation = place.given.fetch_add(1, Ordering::SeqCst).wrapping_add(1) & GENERATIONS;
            }
            self.used.fetch_max(index as u32 + 1, Ordering::SeqCst);
            return Ok(Token::new(index, generation));
        }
        Err(io::Error::other(format!(
            "more than {MAX_PROCESSES} processes share locks; start fewer workers, or make the locks after the fork"
        )))
    }

    /// Gives the place back.
    pub(super) fn leave(&self, token: Token) {
        self.places[token.place()].identity.store(0, Ordering::SeqCst);
    }

    /// How many places there are to look at.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst) as usize
    }

    /// Whether this process is known to have ended. Asks nobody.
    pub(super) fn is_gone(&self, token: Token) -> bool {
        let place = &self.places[token.place()];
        place.identity.load(Ordering::SeqCst) == 0
            || place.given.load(Ordering::SeqCst) & GENERATIONS != token.generation()
    }

    /// Whether this process has ended: the kernel is asked, and what it says is noted for all.
    pub(super) fn has_ended(&self, token: Token) -> bool {
        let place = &self.places[token.place()];
        let identity = place.identity.load(Ordering::SeqCst);
        if identity == 0 || place.given.load(Ordering::SeqCst) & GENERATIONS != token.generation() {
            return true;
        }
        let ended = Identity(identity).has_ended();
        if ended {
            // It fails where the place has been given to another meanwhile.
            let _ = place.identity.compare_exchange(identity, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
        ended
    }

    /// Has the process's thread look at what it waits for.
    pub(super) fn ring(&self, token: Token) {
        let bell = &self.places[token.place()].bell;
        bell.fetch_add(1, Ordering::SeqCst);
        // Fails only for an address that is none.
        let _ = futex::wake(bell, futex::Flags::empty(), 1);
    }

    /// How often this process's bell has been rung.
    pub(super) fn rings(&self, token: Token) -> u32 {
        self.places[token.place()].bell.load(Ordering::SeqCst)
    }

    /// Waits for a ring after those `heard`, for a limited time.
    pub(super) fn listen(&self, token: Token, heard: u32, timeout: Option<Duration>) {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        // Whatever ends it, the caller looks.
        let _ = futex::wait(&self.places[token.place()].bell, futex::Flags::empty(), heard, timeout.as_ref());
    }
}

/// Tells all who share something with it that this process has ended, so that they need not find out by themselves: what
/// it held goes to the next at once instead of after up to 20 ms. For a master that has reaped a worker (gunicorn's `child_exit`).
/// A process that lives is left alone, and one that shares nothing is none of ours. Never parks.
pub fn recover(pid: u32) {
    let Ok(registry) = Registry::get() else { return };
    let places = &registry.places[..registry.used()];
    let mut found = false;
    for place in places {
        let identity = place.identity.load(Ordering::SeqCst);
        if identity != 0 && Identity(identity).pid() == pid && Identity(identity).has_ended() {
            found |= place.identity.compare_exchange(identity, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        }
    }
    let living = places.iter().enumerate().filter(|_| found);
    for (index, _) in living.filter(|(_, place)| place.identity.load(Ordering::SeqCst) != 0) {
        registry.ring(Token::new(index, 0));
    }
}

/// A process: its number, which is below 2^22 on every Linux, and its start in clock ticks since the machine's; zero where that is
/// not to be had.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64);

const PID_BITS: u32 = 22;

impl Identity {
    fn new(pid: u32, start: u64) -> Identity {
        Identity(start << PID_BITS | u64::from(pid))
    }

    fn own() -> Identity {
        let pid = process::id();
        // Where /proc is that of other namespaces, it says nothing of use.
        let start = Stat::of("self").filter(|stat| stat.pid == pid).map_or(0, |stat| stat.start);
        Identity::new(pid, start)
    }

    fn pid(self) -> u32 {
        self.0 as u32 & ((1 << PID_BITS) - 1)
    }

    fn start(self) -> u64 {
        self.0 >> PID_BITS
    }

    /// Whether it will never run again. What cannot be found out counts as alive: to wait in vain is the lesser evil.
    fn has_ended(self) -> bool {
        // SAFETY: kill(2) takes two integers, and signal 0 is none.
        if unsafe { libc::kill(self.pid() as libc::pid_t, 0) } < 0 {
            return io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        }
        let Some(stat) = Stat::of(&self.pid().to_string()) else { return false };
        let another = self.start() != 0 && stat.start != self.start();
        // A first thread that has ended before the others is a zombie, too.
        another || (matches!(stat.state, b'Z' | b'X') && stat.threads <= 1)
    }
}

/// What /proc tells of a process.
#[derive(Debug, PartialEq)]
struct Stat {
    pid: u32,
    state: u8,
    threads: u64,
    start: u64,
}

impl Stat {
    fn of(process: &str) -> Option<Stat> {
        Stat::parse(&fs::read(format!("/proc/{process}/stat")).ok()?)
    }

    /// Fields 1, 3, 20 and 22, counted behind the command's name, which may hold anything.
    fn parse(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let pid = std::str::from_utf8(text.split(|&byte| byte == b' ').next()?).ok()?.parse().ok()?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let threads = fields.nth(16)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        Some(Stat { pid, state, threads, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_parentheses_is_skipped() {
        let text = b"77 (a ) Z b) S 1 7 7 0 -1 4194304 1 2 3 4 100 50 0 0 20 0 3 0 123456 6 7 \xff";
        assert_eq!(
            Stat::parse(&text[..text.len() - 2]),
            Some(Stat { pid: 77, state: b'S', threads: 3, start: 123_456 })
        );
        assert_eq!(Stat::parse(b"77 (a"), None);
        assert_eq!(Stat::parse(b"77 (a) S 1"), None);
    }

    #[test]
    fn this_process_lives_and_one_with_its_number_and_another_start_has_ended() {
        let own = Identity::own();
        assert!(own.start() != 0 && own.pid() == process::id());
        assert!(!own.has_ended());
        assert!(Identity::new(own.pid(), own.start() - 1).has_ended());
        assert!(!Identity::new(own.pid(), 0).has_ended(), "what is not known is not held against it");
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = process::Command::new("true").spawn().unwrap();
        let zombie = Identity::new(child.id(), 0);
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !zombie.has_ended() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(zombie.has_ended());
    }

    #[test]
    fn a_place_is_given_again_and_its_former_owner_is_not_taken_for_the_new_one() {
        let registry = Mapping::<Registry>::new().unwrap().leak();
        let first = registry.enter().unwrap();
        assert!(!registry.is_gone(first) && !registry.has_ended(first));
        registry.leave(first);
        assert!(registry.is_gone(first));
        let second = registry.enter().unwrap();
        assert_eq!(second.place(), first.place());
        assert!(registry.has_ended(first) && !registry.has_ended(second));
        assert_eq!(Token::from_bits(second.bits()), Some(second));
    }

    #[test]
    fn a_full_table_is_an_error_that_says_so() {
        let registry = Mapping::<Registry>::new().unwrap().leak();
        assert!((0..MAX_PROCESSES).all(|_| registry.enter().is_ok()));
        assert!(registry.enter().unwrap_err().to_string().contains("256 processes"));
    }
}
