//! Who gets the connections: no worker may starve, whoever accepts.

use std::collections::BTreeMap;
use std::thread;

use greenserve_tests::{Client, ServerProcess};

const WORKERS: usize = 4;
const CONNECTIONS: usize = 200;

/// How many requests each process has answered.
type Shares = BTreeMap<u64, usize>;

/// Who serves this connection.
fn server_of(client: &mut Client) -> u64 {
    let answer = client.get("/whoami");
    let who: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    who["pid"].as_u64().expect("a process id")
}

fn shares(pids: impl IntoIterator<Item = u64>) -> Shares {
    let mut shares = Shares::new();
    pids.into_iter().for_each(|pid| *shares.entry(pid).or_default() += 1);
    shares
}

/// Connections that stay, opened one after the other.
fn kept(server: &ServerProcess) -> Shares {
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    shares(clients.iter_mut().map(server_of))
}

/// A connection for each request, by ten clients at once.
fn new(server: &ServerProcess) -> Shares {
    thread::scope(|scope| {
        let one = || (0..CONNECTIONS / 10).map(|_| server_of(&mut server.connect())).collect::<Vec<_>>();
        let clients: Vec<_> = (0..10).map(|_| scope.spawn(one)).collect();
        shares(clients.into_iter().flat_map(|client| client.join().unwrap()))
    })
}

#[test]
fn every_worker_gets_a_share_of_the_connections() {
    for (reuse_port, load) in [(false, kept as fn(&_) -> _), (false, new), (true, kept), (true, new)] {
        let workers = WORKERS.to_string();
        let mut args = vec!["demo", "-w", &workers, "--keep-alive", "60"];
        args.extend(reuse_port.then_some("--reuse-port"));
        let server = ServerProcess::start(args);
        server.wait_for_workers(WORKERS);
        let shares: Shares = load(&server);
        println!("reuse_port {reuse_port}: {:?}", shares.values().collect::<Vec<_>>());
        assert_eq!(shares.len(), WORKERS, "somebody gets nothing: {shares:?} (reuse_port {reuse_port})");
        // A tenth of an even share: what is to be found is a worker that starves, not the throw of the kernel's dice.
        let least = CONNECTIONS / WORKERS / 10;
        assert!(shares.values().all(|share| *share >= least), "{shares:?} (reuse_port {reuse_port})");
    }
}
