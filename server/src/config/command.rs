//! From the table to the command line, and from all sources to one [`Config`].

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use clap_complete::Shell;

use super::file;
use super::settings::{Config, SETTINGS, Setting};
use super::value::WorkerClass;
use super::words;

/// The variable that holds flags which stand before those of the command line.
const CMD_ARGS: &str = "GREENSERVE_CMD_ARGS";
/// The settings file that is read if it is there and none is named.
const FILE: &str = "greenserve.toml";

/// What one start of the program was asked to do.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// The settings, from all sources together.
    pub config: Config,
    /// The application named on the command line.
    pub app: App,
    /// Serve, or only say something about the configuration.
    pub action: Action,
    /// Whether an application may be named.
    pub(crate) takes_app: bool,
    /// The name under which the program was called.
    program: String,
    origins: Vec<Origin>,
}

/// The applications that the `greenserve` program brings along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum App {
    /// `demo`: the inspector, see [`crate::demo`].
    #[default]
    Demo,
    /// `static:DIR`: the files under a folder, see [`crate::files`].
    Static(PathBuf),
}

/// What to do with the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    #[default]
    Serve,
    /// `--check-config`: report what is wrong with them, by the exit code and a message.
    CheckConfig,
    /// `--print-config`: print them, each with the source of its value.
    PrintConfig,
    /// `--man`: print the manual page.
    Man,
    /// `--completions`: print what makes a shell complete flags.
    Completions(Shell),
}

/// Where the value of a setting came from. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// An environment variable of its own, such as `PORT`.
    Environment(&'static str),
    /// The settings file, and the line there.
    File(PathBuf, usize),
    /// `GREENSERVE_CMD_ARGS`.
    CmdArgs,
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::CmdArgs => f.write_str(CMD_ARGS),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

impl CommandLine {
    /// Reads the command line `args` (the first is the program's name) and the environment.
    ///
    /// Precedence is gunicorn's, weakest first: defaults, variables such as `PORT`, the settings file, `GREENSERVE_CMD_ARGS`,
    /// the command line. `read` reads the file, which is `greenserve.toml` if `--config` names no other. A repeatable
    /// setting is replaced as a whole by a stronger source. With `takes_app` the
    /// first operand names the application; without it there is none, because the program is one.
    ///
    /// # Errors
    /// A flag nobody knows or a value that is wrong; also `--help` and `--version`, which clap treats alike.
    pub fn parse(
        args: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<String>,
        read: impl Fn(&Path) -> io::Result<String>,
        takes_app: bool,
    ) -> Result<Self, UsageError> {
        let mut args = args.into_iter();
        let program = args.next().map(PathBuf::from);
        let program = program.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        let program = program.unwrap_or("greenserve").to_owned();
        let mut command = command(program.clone(), takes_app);

        let mut line = CommandLine {
            config: Config::default(),
            app: App::default(),
            action: Action::default(),
            takes_app,
            program,
            origins: vec![Origin::Default; SETTINGS.len()],
        };
        for (setting, origin) in SETTINGS.iter().zip(&mut line.origins) {
            let Some((name, template)) = setting.env else { continue };
            let Some(value) = env(name).filter(|value| !value.is_empty()) else { continue };
            if let Err(expected) = (setting.set)(&mut line.config, &template.replace("{}", &value)) {
                let text = format!("invalid value '{value}' for the environment variable {name}: {expected}");
                return Err(UsageError::new(command.error(ErrorKind::ValueValidation, text)));
            }
            *origin = Origin::Environment(name);
        }
        let from_env = env(CMD_ARGS).map(|text| {
            let words = words::split(&text).map_err(|what| {
                let text = format!("invalid value '{text}' for the environment variable {CMD_ARGS}: {what}");
                UsageError::new(command.error(ErrorKind::ValueValidation, text))
            })?;
            let matches = command.try_get_matches_from_mut(words);
            matches.map_err(|error| UsageError { source: Some(CMD_ARGS), error })
        });
        let from_env = from_env.transpose()?;
        let matches = command.try_get_matches_from_mut(args).map_err(UsageError::new)?;
        let all = [Some(&matches), from_env.as_ref()];
        let named = all.into_iter().flatten().find_map(|matches| matches.get_one::<PathBuf>("config"));
        line.read_file(named, read)
            .map_err(|text| UsageError::new(command.error(ErrorKind::ValueValidation, text)))?;
        if let Some(matches) = &from_env {
            line.apply(matches, &Origin::CmdArgs, takes_app);
        }
        line.apply(&matches, &Origin::CommandLine, takes_app);
        if line.config.worker_class == WorkerClass::Sync
            && line.config.threads.is_some_and(|threads| threads > 1)
        {
            line.config.worker_class = WorkerClass::Threads;
        }
        Ok(line)
    }

    /// What `--print-config` prints: a settings file with a line per setting, `name = value`, then where the value came from.
    pub fn print_config(&self) -> String {
        let mut text = String::new();
        for (setting, origin) in SETTINGS.iter().zip(&self.origins) {
            // writing to a String cannot fail
            let value = file::written(setting, &(setting.show)(&self.config));
            let _ = writeln!(text, "{:<25} = {value:<20}  # {origin}", setting.name);
        }
        text
    }

    /// The manual page, in roff: what `--help` says, with all of the same definitions.
    pub fn man(&self) -> Vec<u8> {
        let command = command(self.program.clone(), self.takes_app);
        let mut page = Vec::new();
        // writing to a Vec cannot fail
        let _ = clap_mangen::Man::new(command).title(&self.program).render(&mut page);
        page
    }

    /// What makes a shell complete this program's flags.
    pub fn completions(&self, shell: Shell) -> Vec<u8> {
        let mut script = Vec::new();
        let mut command = command(self.program.clone(), self.takes_app);
        clap_complete::generate(shell, &mut command, &self.program, &mut script);
        script
    }

    /// What the application is called: as on the command line, or as its program.
    pub(crate) fn app_name(&self) -> String {
        match &self.app {
            _ if !self.takes_app => self.program.clone(),
            App::Demo => "demo".to_owned(),
            App::Static(dir) => format!("static:{}", dir.display()),
        }
    }

    /// Takes what the settings file says: the one that is named, else the usual one if it is there.
    fn read_file(
        &mut self,
        named: Option<&PathBuf>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<(), String> {
        let path = named.map_or(Path::new(FILE), PathBuf::as_path);
        let text = match read(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("cannot read the settings file {}: {error}", path.display())),
        };
        let named = |what: &dyn fmt::Display| format!("in the settings file {}, {what}", path.display());
        for entry in file::read(&text).map_err(|fault| named(&fault))? {
            let setting = &SETTINGS[entry.index];
            (setting.set)(&mut self.config, &entry.text).map_err(|what| named(&what))?;
            self.origins[entry.index] = Origin::File(path.to_owned(), entry.line);
        }
        Ok(())
    }

    fn apply(&mut self, matches: &ArgMatches, origin: &Origin, takes_app: bool) {
        for (setting, slot) in SETTINGS.iter().zip(&mut self.origins) {
            let Some(values) = matches.get_many::<String>(setting.name) else { continue };
            let joined = values.map(String::as_str).collect::<Vec<_>>().join(setting.list.unwrap_or(","));
            // each value has passed the setting's own check when clap parsed it
            if (setting.set)(&mut self.config, &joined).is_ok() {
                *slot = origin.clone();
            }
        }
        if takes_app && let Some(app) = matches.get_one::<App>("app") {
            self.app = app.clone();
        }
        if matches.get_flag("man") {
            self.action = Action::Man;
        } else if let Some(shell) = matches.get_one::<Shell>("completions") {
            self.action = Action::Completions(*shell);
        } else if matches.get_flag("print-config") {
            self.action = Action::PrintConfig;
        } else if matches.get_flag("check-config") {
            self.action = Action::CheckConfig;
        }
    }
}

/// A command line or an environment that cannot be used; or a request for help, which is no failure.
#[derive(Debug)]
pub struct UsageError {
    source: Option<&'static str>,
    error: clap::Error,
}

impl UsageError {
    fn new(error: clap::Error) -> Self {
        Self { source: None, error }
    }

    /// The exit code it deserves: 0 for `--help` and `--version`, 2 for a mistake.
    pub fn exit_code(&self) -> u8 {
        if self.error.use_stderr() { 2 } else { 0 }
    }

    /// Prints it: help to standard output, a mistake to standard error.
    pub fn print(&self) {
        if let Some(source) = self.source {
            eprintln!("in the environment variable {source}:");
        }
        // nothing is left to tell it to when standard error is closed
        let _ = self.error.print();
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(f, "in the environment variable {source}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for UsageError {}

fn command(program: String, takes_app: bool) -> Command {
    let about =
        "Serves HTTP with a green thread for each connection: plain blocking code, thousands at a time.";
    let mut command = Command::new("greenserve")
        .bin_name(program.clone())
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .after_help("--help tells more about each setting.")
        .after_long_help(after_help(&program, takes_app))
        .no_binary_name(true)
        .args_override_self(true);
    if takes_app {
        let help = "What to serve: demo (an inspector of requests) or static:DIR (files) [default: demo]";
        command = command.arg(Arg::new("app").value_name("APP").value_parser(parse_app).help(help));
    }
    for setting in SETTINGS {
        command = command.arg(argument(setting));
    }
    command
        .arg(
            Arg::new("config")
                .long("config")
                .short('c')
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The settings file: TOML, with the names that --print-config shows. [default: greenserve.toml, if it is there]")
                .help_heading("Configuration"),
        )
        .arg(flag("print-config").help("Print every setting and where its value came from, then leave."))
        .arg(flag("check-config").help("Check the settings, then leave: code 0 if they are right, 1 or 2 if not."))
        .arg(flag("man").help("Print the manual page, then leave: try --man | man -l -"))
        .arg(
            Arg::new("completions")
                .long("completions")
                .value_name("SHELL")
                .value_parser(clap::value_parser!(Shell))
                .help("Print what makes a shell complete the flags, then leave: bash, elvish, fish, powershell or zsh.")
                .hide_possible_values(true)
                .help_heading("Configuration"),
        )
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help_heading("Configuration")
}

fn argument(setting: &'static Setting) -> Arg {
    let mut notes = String::new();
    if !setting.default.is_empty() {
        notes.push_str(&format!("\n[default: {}]", setting.default));
    }
    if let Some((name, template)) = setting.env {
        let meaning =
            if template == "{}" { String::new() } else { format!(", as {}", template.replace("{}", name)) };
        notes.push_str(&format!("\n[environment: {name}{meaning}]"));
    }
    let long = setting.paragraphs().collect::<Vec<_>>().join("\n\n");
    let long = match setting.restart {
        true => long + "\n\nA new value waits for a restart or SIGUSR2: SIGHUP does not change it.",
        false => long,
    };
    let check = setting.check;
    let arg = Arg::new(setting.name)
        .long(setting.flag)
        .aliases(setting.aliases)
        .value_name(setting.value)
        .action(if setting.repeatable { ArgAction::Append } else { ArgAction::Set })
        .value_parser(move |text: &str| check(text).map(|()| text.to_owned()))
        .allow_negative_numbers(true)
        .help(format!("{}{}", setting.summary(), notes.replace('\n', " ")))
        .long_help(long + &notes)
        .help_heading(setting.group.title());
    let arg = match setting.switch {
        true => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        false => arg,
    };
    // What the shells complete.
    let arg = arg.value_hint(match setting.value {
        "FILE" => ValueHint::FilePath,
        "FOLDER" => ValueHint::DirPath,
        "USER" => ValueHint::Username,
        _ => ValueHint::Unknown,
    });
    match setting.short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

fn parse_app(text: &str) -> Result<App, String> {
    match text.strip_prefix("static:") {
        Some("") => Err("expected a folder after static:, such as static:./public".to_owned()),
        Some(dir) => Ok(App::Static(dir.into())),
        None if text == "demo" => Ok(App::Demo),
        None => Err("expected demo or static:DIR".to_owned()),
    }
}

fn after_help(program: &str, takes_app: bool) -> String {
    let app = if takes_app { " static:./public" } else { "" };
    format!(
        "\
Examples:
  {program}
      serves on http://127.0.0.1:8000
  {program} ctl show workers
      asks a running server how its workers are; {program} ctl --help tells what else can be asked and done
  {program}{app} -b :8080 -b unix:/run/greenserve.sock --access-logfile -
      serves on every IPv4 address and on a Unix socket, with an access log on standard output
  GREENSERVE_CMD_ARGS='--keep-alive 5' {program} --print-config
      shows what the settings come to, and why

Where settings come from, weakest first:
  the defaults; PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS; the settings file; GREENSERVE_CMD_ARGS;
  the command line

Signals:
  TERM       stop gracefully: accept no more, let requests in flight finish (--graceful-timeout)
  INT, QUIT  stop at once
  HUP        load the settings again, and replace the workers one after the other
  TTIN, TTOU one worker more, one less
  USR1       open the log files again
  USR2       start a new master with the same sockets beside this one; then TERM the old one, or the new one to go back
  WINCH      stop all workers gracefully, but not the master (unless it has a terminal)"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::value::Bind;
    use super::*;

    fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<CommandLine, UsageError> {
        let args = std::iter::once(&"greenserve").chain(args).map(OsString::from);
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let file = |path: &Path| Err(io::Error::new(io::ErrorKind::NotFound, path.display().to_string()));
        CommandLine::parse(args, env, file, true)
    }

    fn parse_with_file(args: &[&str], env: &[(&str, &str)], file: &str) -> Result<CommandLine, UsageError> {
        let args = std::iter::once(&"greenserve").chain(args).map(OsString::from);
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        CommandLine::parse(args, env, |_| Ok(file.to_owned()), true)
    }

    fn tcp(host: &str, port: u16) -> Bind {
        Bind::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn the_definition_satisfies_clap() {
        command("greenserve".to_owned(), true).debug_assert();
        command("greenserve".to_owned(), false).debug_assert();
    }

    #[test]
    fn without_arguments_the_demo_is_served_with_the_defaults() {
        let line = parse(&[], &[]).unwrap();
        assert_eq!(line.config, Config::default());
        assert_eq!(line.app, App::Demo);
        assert_eq!(line.action, Action::Serve);
    }

    #[test]
    fn flags_reach_their_settings() {
        let args = ["static:/srv", "-b", ":1", "--bind=unix:/s", "-k", "threads", "--keep-alive", "0.5"];
        let line = parse(&args, &[]).unwrap();
        assert_eq!(line.app, App::Static("/srv".into()));
        assert_eq!(line.config.bind, [tcp("0.0.0.0", 1), Bind::Unix("/s".into())]);
        assert_eq!(line.config.worker_class, WorkerClass::Threads);
        assert_eq!(line.config.keepalive, Duration::from_millis(500));
        for flag in ["--limit-request-field_size", "--limit-request-field-size"] {
            assert_eq!(parse(&[flag, "100"], &[]).unwrap().config.limit_request_field_size, 100);
        }
    }

    #[test]
    fn a_later_flag_wins() {
        let line = parse(&["--backlog", "5", "--backlog", "6"], &[]).unwrap();
        assert_eq!(line.config.backlog, 6);
    }

    #[test]
    fn the_command_line_wins_over_cmd_args_over_variables_over_defaults() {
        let env = [
            ("PORT", "7000"),
            ("WEB_CONCURRENCY", "3"),
            (CMD_ARGS, "--keep-alive 7 --backlog '9' --access-logformat \"%(h)s x\""),
        ];
        let line = parse(&["--backlog", "10"], &env).unwrap();
        assert_eq!(line.config.bind, [tcp("0.0.0.0", 7000)]);
        assert_eq!(line.config.workers, 3);
        assert_eq!(line.config.keepalive, Duration::from_secs(7));
        assert_eq!(line.config.backlog, 10);
        assert_eq!(line.config.access_log_format.to_string(), "%(h)s x");

        let line = parse(&["-b", ":1"], &[("PORT", "7000"), (CMD_ARGS, "-b :2 -b :3 -w 8")]).unwrap();
        assert_eq!(line.config.bind, [tcp("0.0.0.0", 1)]);
        assert_eq!(line.config.workers, 8);
    }

    #[test]
    fn the_file_wins_over_variables_and_loses_against_arguments() {
        let file = "bind = ':1'\nworkers = 2\nbacklog = 3\nkeepalive = 4\n";
        let env = [("PORT", "7000"), ("WEB_CONCURRENCY", "9"), (CMD_ARGS, "--backlog 30 --keep-alive 40")];
        let line = parse_with_file(&["--keep-alive", "400", "-c", "some.toml"], &env, file).unwrap();
        assert_eq!(line.config.bind, [tcp("0.0.0.0", 1)]);
        assert_eq!((line.config.workers, line.config.backlog), (2, 30));
        assert_eq!(line.config.keepalive, Duration::from_secs(400));
        let text = line.print_config();
        assert!(
            text.lines().any(|line| line.starts_with("workers") && line.ends_with("# some.toml:2")),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_be_right() {
        let error = parse(&["-c", "some.toml"], &[]).unwrap_err();
        assert!(error.to_string().contains("some.toml"), "{error}");
        let error = parse_with_file(&[], &[], "workers = 2\nbakclog = 1\n").unwrap_err();
        for needle in ["greenserve.toml", "line 2", "bakclog", "'backlog'"] {
            assert!(error.to_string().contains(needle), "{needle}: {error}");
        }
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn empty_variables_count_as_unset() {
        let line = parse(&[], &[("PORT", ""), ("WEB_CONCURRENCY", ""), (CMD_ARGS, "")]).unwrap();
        assert_eq!(line.config, Config::default());
    }

    #[test]
    fn a_wrong_value_names_the_setting_the_value_and_what_would_be_right() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&["--keep-alive", "soon"], &[], &["--keep-alive", "soon", "0.5"]),
            (&["--keep-alive", "-1"], &[], &["--keep-alive", "-1", "seconds"]),
            (&["-b", "8000"], &[], &["--bind", "8000", ":8000"]),
            (&["flask"], &[], &["flask", "demo or static:DIR"]),
            (&[], &[("PORT", "http")], &["PORT", "http", "0 to 65535"]),
            (&[], &[(CMD_ARGS, "-k gevent")], &[CMD_ARGS, "gevent", "green, threads"]),
        ];
        for (args, env, needles) in cases {
            let error = parse(args, env).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            for needle in needles {
                assert!(error.to_string().contains(needle), "{needle} not in: {error}");
            }
        }
    }

    #[test]
    fn an_unknown_flag_suggests_the_near_one() {
        let error = parse(&["--keepalive", "2"], &[]).unwrap_err();
        assert!(error.to_string().contains("--keep-alive"), "{error}");
    }

    #[test]
    fn print_config_says_where_each_value_came_from() {
        let line = parse(&["--print-config", "--backlog", "7"], &[("PORT", "1")]).unwrap();
        assert_eq!(line.action, Action::PrintConfig);
        let text = line.print_config();
        assert_eq!(text.lines().count(), SETTINGS.len());
        let of = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(of("backlog").contains("= 7") && of("backlog").contains("# command line"), "{text}");
        assert!(of("bind").contains("0.0.0.0:1") && of("bind").contains("PORT"), "{text}");
        assert!(of("keepalive").contains("# default"), "{text}");
    }

    #[test]
    fn what_print_config_prints_is_a_settings_file_that_gives_the_same() {
        let args = [
            "-e",
            "A=1,2",
            "-e",
            "B=\"x\" y",
            "-u",
            "nobody",
            "-m",
            "007",
            "-b",
            ":1",
            "-b",
            "unix:/s",
            "-D",
            "-n",
            "7",
            "--keep-alive",
            "0.25",
            "--tls-min-version",
            "1.3",
            "--limit-request-body",
            "1G",
            "--chdir",
            "/",
        ];
        let line = parse(&args, &[]).unwrap();
        assert_eq!(line.config.raw_env.0[0], ("A".to_owned(), "1,2".to_owned()));
        let again = parse_with_file(&[], &[], &line.print_config()).unwrap();
        assert_eq!(again.config, line.config, "{}", line.print_config());
    }

    #[test]
    fn a_switch_can_be_switched_off_again() {
        let env = [(CMD_ARGS, "--daemon --reuse-port")];
        let line = parse(&["--daemon=false", "-w", "auto"], &env).unwrap();
        assert_eq!((line.config.daemon, line.config.reuse_port), (false, true));
        assert!(line.config.workers >= 1);
        let line = parse(&["-D", "demo"], &[]).unwrap();
        assert!(line.config.daemon && line.app == App::Demo);
    }

    #[test]
    fn manual_page_and_completions_have_every_flag() {
        let line = parse(&["--man"], &[]).unwrap();
        assert_eq!(line.action, Action::Man);
        let page = String::from_utf8(line.man()).unwrap();
        assert!(page.contains(".TH greenserve"), "{page}");
        let page = page.replace("\\-", "-");
        for shell in ["bash", "zsh", "fish"] {
            let line = parse(&["--completions", shell], &[]).unwrap();
            let Action::Completions(shell) = line.action else { panic!("{:?}", line.action) };
            let script = String::from_utf8(line.completions(shell)).unwrap();
            for setting in SETTINGS {
                assert!(page.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
                assert!(script.contains(setting.flag), "{shell}: {}", setting.flag);
            }
        }
        let error = parse(&["--completions", "dos"], &[]).unwrap_err();
        assert!(error.to_string().contains("bash"), "{error}");
    }

    #[test]
    fn help_has_every_flag_its_default_and_its_group() {
        let error = parse(&["--help"], &[]).unwrap_err();
        assert_eq!(error.exit_code(), 0);
        let help = error.to_string();
        for setting in SETTINGS {
            let flag = match setting.switch {
                true => format!("--{}[=<", setting.flag),
                false => format!("--{} <{}>", setting.flag, setting.value),
            };
            assert!(help.contains(&flag), "{}", setting.flag);
            assert!(help.contains(setting.group.title()), "{}", setting.group.title());
        }
        assert!(help.contains("[default: 127.0.0.1:8000]") && help.contains("WEB_CONCURRENCY"), "{help}");
    }
}
