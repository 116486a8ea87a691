//! A server whose handler asks PostgreSQL by the plain, blocking `postgres` crate. A request that waits for its answer lets
//! others run.
//!
//! `GUESTS_POSTGRES` says where the database is, as `host=127.0.0.1 port=5432 user=me dbname=mine`.

use std::cell::RefCell;

use greenlet_interpose as _;
use greenserve::{Error, ExitCode, Request, StatusCode};
use postgres::{Client, NoTls};

thread_local! {
    /// Connections that nobody uses at the moment.
    static IDLE: RefCell<Vec<Client>> = const { RefCell::new(Vec::new()) };
}

fn app(request: Request) -> Result<&'static str, Error> {
    let query = match request.path() {
        "/" => "select 1",
        "/sleep" => "select pg_sleep(0.2)",
        _ => return Err(StatusCode::NOT_FOUND.into()),
    };
    let idle = IDLE.with_borrow_mut(Vec::pop);
    let mut client = match idle {
        Some(client) => client,
        None => {
            let address = std::env::var("GUESTS_POSTGRES").map_err(Error::internal)?;
            Client::connect(&address, NoTls).map_err(Error::internal)?
        }
    };
    client.batch_execute(query).map_err(Error::internal)?;
    IDLE.with_borrow_mut(|idle| idle.push(client));
    Ok(if request.path() == "/sleep" { "slept\n" } else { "here\n" })
}

fn main() -> ExitCode {
    greenserve_guests::learn();
    greenserve::main(app)
}
