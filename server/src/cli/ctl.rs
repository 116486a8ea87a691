//! `greenserve ctl`: tells a running master what to do, or asks how it is.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};

use super::print;
use crate::control::{self, COMMANDS, Client, Outcome};

/// The first argument that leads here.
pub(super) const NAME: &str = "ctl";

/// It was refused, or failed.
const REFUSED: u8 = 1;
/// The command line is wrong, or does not say which server is meant.
const USAGE: u8 = 2;
/// There is nobody to tell.
const NOBODY: u8 = 3;

/// Reads the rest of the command line, and does what it says. `configured` is where the settings have the control socket.
pub(super) fn run(
    program: &str,
    args: impl Iterator<Item = OsString>,
    configured: impl FnOnce() -> Option<PathBuf>,
) -> ExitCode {
    let matches = match command(program).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to tell it to when standard error is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let mut words: Vec<String> = matches.get_many("command").into_iter().flatten().cloned().collect();
    if let Some(command) = matches.get_one::<String>("run") {
        words.extend(command.split_whitespace().map(ToOwned::to_owned));
    }
    if matches.get_flag("force") {
        words.push("--force".to_owned());
    }
    if words.is_empty() || words == ["help"] {
        let help = command(program).render_long_help();
        return print(help.to_string().as_bytes());
    }
    if let Err(error) = control::Command::parse(words.iter().map(String::as_str)) {
        return fail(USAGE, &error);
    }
    let named = matches.get_one::<PathBuf>("socket");
    let done = client(program, named, configured).and_then(|(path, mut client)| {
        client.ask(&words).map_err(|error| Failure(REFUSED, format!("{}: {error}", path.display())))
    });
    match done {
        Ok(Outcome::Ok { data }) if matches.get_flag("json") => print(format!("{data}\n").as_bytes()),
        Ok(Outcome::Ok { data }) => print(control::render(&data).as_bytes()),
        Ok(Outcome::Error { error }) => {
            if matches.get_flag("json") {
                print(format!("{}\n", serde_json::json!({"error": error})).as_bytes());
            }
            fail(REFUSED, &error)
        }
        Err(Failure(code, what)) => fail(code, &what),
    }
}

struct Failure(u8, String);

fn fail(code: u8, what: &str) -> ExitCode {
    // Nothing is left to tell it to when standard error is closed.
    let _ = writeln!(io::stderr(), "Error: {what}");
    ExitCode::from(code)
}

/// The server that is meant.
fn client(
    program: &str,
    named: Option<&PathBuf>,
    configured: impl FnOnce() -> Option<PathBuf>,
) -> Result<(PathBuf, Client), Failure> {
    if let Some(path) = named {
        return connect(program, path);
    }
    let Some(usual) = configured().or_else(control::usual) else {
        let what = "there is neither XDG_RUNTIME_DIR nor HOME: name the control socket with --socket";
        return Err(Failure(USAGE, what.to_owned()));
    };
    // As the server does: relative ones lie in the working folder.
    let usual = control::absolute(&usual).unwrap_or(usual);
    match &control::find(&usual)[..] {
        [] => connect(program, &usual),
        [one] => connect(program, one),
        several => {
            let list: Vec<String> = several.iter().map(|path| format!("\n  {}", path.display())).collect();
            let what =
                format!("several servers run here; say with --socket which one is meant:{}", list.concat());
            Err(Failure(USAGE, what))
        }
    }
}

fn connect(program: &str, path: &Path) -> Result<(PathBuf, Client), Failure> {
    let client = Client::connect(path).map_err(|error| {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure(
                NOBODY,
                format!(
                    "no server has its control socket at {path}. Its log says where that is (\"Control socket:\"), and \
                     --socket takes it; without workers (-w 0) there is none. {program} starts a server"
                ),
            ),
            io::ErrorKind::PermissionDenied => Failure(
                REFUSED,
                format!("{path}: this user may not open it; see --control-socket-mode of the server"),
            ),
            _ => Failure(REFUSED, format!("{path}: {error}")),
        }
    })?;
    Ok((path.to_path_buf(), client))
}

fn command(program: &str) -> Command {
    let width = COMMANDS.iter().map(|(usage, _)| usage.len()).max().unwrap_or(0);
    let mut list = String::from("Commands:\n");
    for (usage, what) in COMMANDS {
        list.push_str(&format!("  {usage:<width$}  {what}\n"));
    }
    let after = format!(
        "{list}
Examples:
  {program} ctl show workers
  {program} ctl show connections -j | jq '.workers[].connections[] | select(.state == \"handler\")'
  {program} ctl worker add 2
  {program} ctl -s /run/app/greenserve.ctl reload

Which server:
  --socket, else control_socket in greenserve.toml, else $XDG_RUNTIME_DIR/greenserve.ctl, or
  ~/.greenserve/greenserve.ctl if there is no such folder. The second server there adds a dot and its process id to
  the name, a new master that runs beside its old one .2; if several run, --socket has to say which one is meant.

Exit codes:
  0  done      1  refused or failed      2  wrong command line      3  no server there"
    );
    Command::new("ctl")
        .bin_name(format!("{program} ctl"))
        .no_binary_name(true)
        .about("Tells a running server what to do, or shows what it does, through its control socket.")
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(0..)
                .help("What to do: the words of a command, see below"),
        )
        .arg(
            Arg::new("socket")
                .short('s')
                .long("socket")
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The server's control socket"),
        )
        .arg(
            Arg::new("run")
                .short('c')
                .long("command")
                .value_name("COMMAND")
                .conflicts_with("command")
                .help("The command in one argument, as gunicornc takes it"),
        )
        .arg(
            Arg::new("json")
                .short('j')
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the answer as JSON, for programs"),
        )
        .arg(
            Arg::new("force")
                .long("force")
                .action(ArgAction::SetTrue)
                .help("worker kill: at once, without a chance to finish anything"),
        )
        .after_help(after)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_made() {
        super::command("greenserve").debug_assert();
    }
}
