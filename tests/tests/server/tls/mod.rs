//! HTTPS: the real binary with certificates made by the test, and rustls as the client.

mod certificates;
mod handshake;
mod library;
mod pki;
mod proxied;
mod reload;
mod settings;
mod transfer;

use std::sync::Arc;

use greenserve_tests::{Client, ServerProcess};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use self::pki::{Authority, Identity};

/// The two ways to serve a connection.
const KINDS: [&str; 2] = ["green", "threads"];

/// An authority and a server's identity for `localhost` that it has issued.
struct Site {
    authority: Authority,
    identity: Identity,
}

impl Site {
    fn new() -> Site {
        let authority = Authority::new();
        let identity = authority.issue(&["localhost"]);
        Site { authority, identity }
    }

    /// The demo over TLS, with further arguments.
    fn serve(&self, args: &[&str]) -> ServerProcess {
        serve(&[&self.identity], args)
    }

    /// A new connection, which has not shaken hands yet.
    fn connect(&self, server: &ServerProcess) -> Client {
        connect(server, self.authority.client(), "localhost")
    }
}

fn serve(identities: &[&Identity], args: &[&str]) -> ServerProcess {
    let mut all = Vec::new();
    if !args.iter().any(|arg| arg.starts_with("static:")) {
        all.push("demo".to_owned());
    }
    for identity in identities {
        all.extend(["--certfile".to_owned(), path(&identity.certfile)]);
        all.extend(["--keyfile".to_owned(), path(&identity.keyfile)]);
    }
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    ServerProcess::builder().args(all).start()
}

fn path(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn connect(server: &ServerProcess, config: ClientConfig, name: &str) -> Client {
    connect_with(server, &Arc::new(config), name)
}

fn connect_with(server: &ServerProcess, config: &Arc<ClientConfig>, name: &str) -> Client {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Client::tls(server.addr(), ClientConnection::new(Arc::clone(config), name).unwrap())
}

/// What the application sees of the handshake.
fn seen(client: &mut Client) -> serde_json::Value {
    serde_json::from_str(client.get("/tls").text()).unwrap()
}
