//! Into the background, and what whoever started the program learns of it.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, PipeWriter, Read, Write};
use std::process;

use greenlet::process::fork_alone;
use rustix::process::setsid;

/// The program's tie to the one that started it, until the server listens.
pub(super) struct Daemon {
    starter: Cell<Option<PipeWriter>>,
    /// Standard output and error stay, unless they are a terminal.
    inherits: bool,
}

impl Daemon {
    /// A program that stays where it is.
    pub(super) fn none() -> Daemon {
        Daemon { starter: Cell::new(None), inherits: false }
    }

    /// Goes on in a process of its own session, which is not its leader and so gets no terminal any more. The process that was
    /// started waits for [`ready`](Self::ready) or [`end`](Self::end) and ends with that code; until then the terminal can still be
    /// written to.
    ///
    /// # Errors
    /// The kernel's. There is still but one process then.
    pub(super) fn leave(inherits: bool) -> io::Result<Daemon> {
        let (mut news, starter) = io::pipe()?;
        if fork_alone()?.is_some() {
            drop(starter);
            let mut code = [1];
            // Without a word it has died: of what it has said itself.
            let _ = news.read_exact(&mut code);
            process::exit(i32::from(code[0]));
        }
        drop(news);
        setsid()?;
        if fork_alone()?.is_some() {
            process::exit(0);
        }
        Ok(Daemon { starter: Cell::new(Some(starter)), inherits })
    }

    /// The server listens: from now on the standard streams lead nowhere, if they are not to stay, and the program that was started ends well.
    ///
    /// # Errors
    /// /dev/null can't be opened.
    pub(super) fn ready(&self) -> io::Result<()> {
        let Some(mut starter) = self.starter.take() else { return Ok(()) };
        let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nowhere)?;
        if !self.inherits || io::stdout().is_terminal() {
            rustix::stdio::dup2_stdout(&nowhere)?;
        }
        if !self.inherits || io::stderr().is_terminal() {
            rustix::stdio::dup2_stderr(&nowhere)?;
        }
        // It may have been killed meanwhile, which is no reason not to serve.
        let _ = starter.write_all(&[0]);
        Ok(())
    }

    /// The program ends with this code; if it never was ready so does the one that was started.
    pub(super) fn end(&self, code: u8) {
        if let Some(mut starter) = self.starter.take() {
            let _ = starter.write_all(&[code]);
        }
    }
}
