//! The peers: how each is started. Their programs are in `benches/peers`, installed by `benches/peers/setup`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::rows::{Route, Row, WORKERS, Way};

/// One server to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name, also on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
    /// Which routes it has.
    routes: &'static [Route],
    /// Python takes so much longer that fewer rounds tell enough.
    pub slow: bool,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// Ours, with so many workers; `None` is as many as the site says.
    Ours(Option<usize>),
    Bare,
    /// A program called with port and file.
    Program(&'static str),
    Nginx,
    /// A command of the virtual environment, and where its `sleep` comes from. `@PORT@` is filled in.
    Python(&'static str, &'static str),
}

use Route::{File, Fixed, Plaintext, Sleep, Stream, StreamFlushed};

const ALL: &[Route] = &[Plaintext, Sleep, Fixed, Stream, StreamFlushed, File];
const WSGI: &[Route] = &[Plaintext, Sleep, Fixed, StreamFlushed, File];
/// One that handles one request at a time, or few, can't be measured asleep.
const WSGI_AWAKE: &[Route] = &[Plaintext, Fixed, StreamFlushed, File];

/// All of them; the first is ours, the second what all are measured by.
pub const PEERS: &[Peer] = &[
    Peer { name: "greenserve", what: "this server", routes: ALL, slow: false, how: How::Ours(None) },
    Peer {
        name: "bare",
        what: "an epoll loop in C that parses nothing",
        routes: ALL, // its stream is sent in one go
        slow: false,
        how: How::Bare,
    },
    Peer {
        name: "hyper",
        what: "Rust, tokio's current-thread runtime",
        routes: ALL,
        slow: false,
        how: How::Program("peer-hyper"),
    },
    Peer { name: "axum", what: "Rust, on hyper", routes: ALL, slow: false, how: How::Program("peer-axum") },
    Peer {
        name: "actix",
        what: "Rust, one worker",
        routes: ALL,
        slow: false,
        how: How::Program("peer-actix"),
    },
    Peer {
        name: "may",
        what: "Rust, may_minihttp, one worker",
        routes: &[Plaintext, Sleep, Fixed],
        slow: false,
        how: How::Program("peer-may"),
    },
    Peer {
        name: "nginx",
        what: "C, one worker",
        routes: &[Plaintext, Fixed, File],
        slow: false,
        how: How::Nginx,
    },
    Peer {
        name: "go",
        what: "net/http, GOMAXPROCS=1",
        routes: ALL,
        slow: false,
        how: How::Program("peer-go"),
    },
    Peer {
        name: "bjoern",
        what: "WSGI, C, libev",
        routes: WSGI_AWAKE,
        slow: true,
        how: How::Python("python bjoern_peer.py @PORT@", "time"),
    },
    Peer {
        name: "granian",
        what: "WSGI, Rust, one worker",
        routes: WSGI_AWAKE,
        slow: true,
        how: How::Python(
            "granian --interface wsgi --host 127.0.0.1 --port @PORT@ --workers 1 --http 1 --backlog 8192 --backpressure 20000 --blocking-threads 1 --no-ws --log-level error app:application",
            "time",
        ),
    },
    Peer {
        name: "gevent",
        what: "WSGI, gevent's pywsgi",
        routes: WSGI,
        slow: true,
        how: How::Python("python pywsgi.py @PORT@", "gevent"),
    },
    Peer {
        name: "gunicorn-gevent",
        what: "WSGI, gunicorn -k gevent",
        routes: WSGI,
        slow: true,
        how: How::Python(
            "gunicorn -k gevent -w 1 -b 127.0.0.1:@PORT@ --backlog 8192 --worker-connections 20000 --keep-alive 75 --log-level error app:application",
            "gevent",
        ),
    },
    Peer {
        name: "gunicorn-gthread",
        what: "WSGI, gunicorn -k gthread, 16 threads",
        routes: WSGI_AWAKE,
        slow: true,
        how: How::Python(
            "gunicorn -k gthread --threads 16 -w 1 -b 127.0.0.1:@PORT@ --backlog 8192 --worker-connections 20000 --keep-alive 75 --log-level error app:application",
            "time",
        ),
    },
    Peer {
        name: "uwsgi",
        what: "WSGI, uWSGI's own HTTP router and one worker",
        routes: WSGI_AWAKE,
        slow: true,
        how: How::Python(
            "uwsgi --http 127.0.0.1:@PORT@ --http-keepalive=75 --http-auto-chunked --http-processes 1 --listen 4096 --processes 1 --tcp-nodelay --disable-logging --logto /dev/null --master --die-on-term --max-fd 20000 --add-header Connection:Keep-Alive --module app:application",
            "time",
        ),
    },
    Peer {
        name: ONE_WORKER,
        what: "this server, a master and one worker",
        routes: &[Plaintext],
        slow: false,
        how: How::Ours(Some(1)),
    },
    Peer {
        name: TWO_WORKERS,
        what: "this server, a master and two workers",
        routes: &[Plaintext],
        slow: false,
        how: How::Ours(Some(2)),
    },
];

/// What the row [`WORKERS`] compares, and nobody else is in.
pub(super) const ONE_WORKER: &str = "greenserve-w1";
pub(super) const TWO_WORKERS: &str = "greenserve-w2";

/// Where the peers are installed, and how ours is started.
#[derive(Clone, Debug)]
pub struct Site {
    /// The directory that `setup` was given.
    pub installed: PathBuf,
    /// `benches/peers`.
    pub sources: PathBuf,
    /// How many workers ours has under a master; 0 is a server without one.
    pub workers: usize,
}

impl Peer {
    /// How many worker processes it has under a master of ours that is not to be measured with them.
    pub fn workers(&self, site: &Site) -> usize {
        match self.how {
            How::Ours(workers) => workers.unwrap_or(site.workers),
            _ => 0,
        }
    }

    /// Whether it is ours, in whatever form.
    pub fn is_ours(&self) -> bool {
        matches!(self.how, How::Ours(_))
    }

    /// Whether it is there.
    pub fn installed(&self, site: &Site) -> bool {
        match self.how {
            How::Ours(_) => site.installed.join("bin/peer-greenserve").exists(),
            How::Bare => site.installed.join("bin/bare").exists(),
            How::Program(program) => site.installed.join("bin").join(program).exists(),
            How::Nginx => nginx().is_some(),
            How::Python(command, sleep) => {
                let bin = site.installed.join("venv/bin");
                let program = command.split(' ').next().unwrap_or_default();
                let module = if self.name == "bjoern" { "bjoern" } else { sleep };
                bin.join(program).exists() && imports(&bin, module)
            }
        }
    }

    /// Whether it can be measured in this row.
    pub fn measures(&self, row: Row) -> bool {
        let able = match (self.name, row.way) {
            _ if (row.name == WORKERS) != [ONE_WORKER, TWO_WORKERS].contains(&self.name) => false,
            ("may", Way::Close { .. }) => false, // ignores `Connection: close`
            ("bare", Way::Busy { .. }) => false, // has no handlers
            _ => true,
        };
        able && self.routes.contains(&row.route)
    }

    /// Rows with the same key can be served by the same process. Bare answers everything alike, and hyper has a setting
    /// that is good for pipelined requests and bad for large bodies.
    pub fn key(&self, row: Row) -> String {
        match self.name {
            "bare" => format!("{:?} {}", row.route, matches!(row.way, Way::Close { .. })),
            "hyper" => pipelined(row).to_string(),
            _ => String::new(),
        }
    }

    /// The command that starts it for this row, and where it will listen.
    ///
    /// # Errors
    ///
    /// If there is no free port, or a configuration can't be written.
    pub fn command(&self, site: &Site, row: Row) -> io::Result<(Command, SocketAddr)> {
        let (route, closing) = (row.route, matches!(row.way, Way::Close { .. }));
        // Free a moment ago. Should somebody take it meanwhile the server ends at once, which is an error.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = address.port().to_string();
        let file = site.installed.join("10m");
        let command = match self.how {
            How::Ours(_) => {
                let workers = self.workers(site);
                let program =
                    if workers == 0 { "bin/peer-greenserve" } else { "bin/peer-greenserve-workers" };
                let mut command = Command::new(site.installed.join(program));
                match workers {
                    0 => command.arg(&port).arg(file),
                    workers => command
                        .args(["--bind", &address.to_string(), "--workers", &workers.to_string()])
                        .args(["--backlog", "8192", "--worker-connections", "30000", "--keep-alive", "75"])
                        .args(["--log-level", "warning", "--no-control-socket"])
                        .env("PEER_FILE", file)
                        .env_remove("GREENSERVE_CMD_ARGS"),
                };
                command
            }
            How::Bare => {
                let mut command = Command::new(site.installed.join("bin/bare"));
                command.arg(&port).arg(match route {
                    Plaintext if closing => "close",
                    Plaintext => "plaintext",
                    Sleep => "sleep",
                    Fixed => "fixed",
                    Stream | StreamFlushed => "stream",
                    File => "file",
                });
                if route == File {
                    command.arg(file);
                }
                command
            }
            How::Program(program) => {
                let mut command = Command::new(site.installed.join("bin").join(program));
                command.arg(&port).arg(file);
                if self.name == "hyper" && pipelined(row) {
                    command.arg("pipeline");
                }
                command
            }
            How::Nginx => {
                let template = std::fs::read_to_string(site.sources.join("nginx/nginx.conf.in"))?;
                let directory = site.installed.join(format!("nginx-{port}"));
                std::fs::create_dir_all(&directory)?;
                for file in ["10m", "100k"] {
                    let link = directory.join(file);
                    if !link.exists() {
                        std::os::unix::fs::symlink(site.installed.join(file), link)?;
                    }
                }
                let configuration = directory.join("nginx.conf");
                let text =
                    template.replace("@PORT@", &port).replace("@DIR@", &directory.display().to_string());
                std::fs::write(&configuration, text)?;
                let mut command = Command::new(nginx().ok_or(io::ErrorKind::NotFound)?);
                command.arg("-c").arg(configuration).arg("-e").arg("stderr");
                command
            }
            How::Python(line, sleep) => {
                let line = line.replace("@PORT@", &port);
                let mut words = line.split(' ');
                let program = words.next().unwrap_or_default();
                let mut command = Command::new(site.installed.join("venv/bin").join(program));
                command
                    .args(words)
                    .current_dir(site.sources.join("python"))
                    .env("PEER_SLEEP", sleep)
                    .env("PEER_FILE", file)
                    .env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        Ok((command, address))
    }

    /// Its version, as it says itself; empty if it doesn't.
    pub fn version(&self, site: &Site) -> String {
        let said = |command: &mut Command| {
            let output = command.output().ok()?;
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
        };
        let locked = |name: &str| {
            let lock = std::fs::read_to_string(site.sources.join("rust/Cargo.lock")).ok()?;
            let rest = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
            Some(format!("{name} {}", rest.split_once('"')?.0))
        };
        let package = |name: &str| {
            let script = format!("import importlib.metadata as m; print('{name}', m.version('{name}'))");
            said(Command::new(site.installed.join("venv/bin/python")).args(["-c", &script]))
        };
        match self.name {
            _ if self.is_ours() => Some(format!("greenserve {}", env!("CARGO_PKG_VERSION"))),
            "bare" => said(Command::new("cc").arg("--version")).map(|cc| format!("{cc}, -O2")),
            "hyper" | "axum" => {
                locked(self.name).zip(locked("tokio")).map(|(name, tokio)| format!("{name}, {tokio}"))
            }
            "actix" => locked("actix-web"),
            "may" => locked("may_minihttp").zip(locked("may")).map(|(http, may)| format!("{http}, {may}")),
            "nginx" => nginx().and_then(|nginx| said(Command::new(nginx).arg("-v"))),
            "go" => said(Command::new("go").arg("version")),
            "gunicorn-gevent" => package("gunicorn")
                .zip(package("gevent"))
                .map(|(gunicorn, gevent)| format!("{gunicorn}, {gevent}")),
            "gunicorn-gthread" => package("gunicorn"),
            name => package(name),
        }
        .unwrap_or_default()
    }
}

fn pipelined(row: Row) -> bool {
    matches!(row.way, Way::Keep { depth: 2.., .. })
}

fn nginx() -> Option<PathBuf> {
    // not on everybody's path
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join("nginx"))
        .find(|file| file.exists())
}

fn imports(bin: &Path, module: &str) -> bool {
    Command::new(bin.join("python"))
        .args(["-c", &format!("import {module}")])
        .output()
        .is_ok_and(|output| output.status.success())
}
