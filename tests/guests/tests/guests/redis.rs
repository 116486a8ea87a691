//! `redis`: blocking sockets of std.

use redis::{Connection, RedisError};

use super::{in_time, killed, on_threads, until};
use greenserve_guests::{server, together};

fn connect(_: usize) -> Connection {
    let client = redis::Client::open(server("GUESTS_REDIS")).expect("an address");
    client.get_connection().expect("a connection")
}

#[test]
fn commands_that_block_wait_together() {
    together(20, connect, |connection| {
        let nothing: Option<(String, String)> =
            redis::cmd("BLPOP").arg("nobody-pushes").arg(0.2).query(connection).expect("an answer");
        assert_eq!(nothing, None);
    });
}

#[test]
fn one_greenlet_gets_what_another_pushes() {
    in_time(|| {
        let pops = greenserve_guests::spawn(|| -> (String, String) {
            redis::cmd("BLPOP").arg("handed-over").arg(0).query(&mut connect(0)).expect("an answer")
        });
        let pushes = greenserve_guests::spawn(|| {
            let mut connection = connect(1);
            // Not before the other waits.
            until(|| is_blocked(&mut connect(2), 1));
            let _: i64 = redis::cmd("RPUSH")
                .arg("handed-over")
                .arg("a value")
                .query(&mut connection)
                .expect("an answer");
        });
        assert_eq!(pops.join(), ("handed-over".to_owned(), "a value".to_owned()));
        pushes.join();
    });
}

#[test]
fn a_read_timeout_is_kept() {
    in_time(|| {
        greenserve_guests::spawn(|| {
            let mut connection = connect(0);
            connection.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("a timeout");
            let late: Result<(), RedisError> =
                redis::cmd("BLPOP").arg("nobody-pushes").arg(20).query(&mut connection);
            assert!(late.expect_err("it is late").is_timeout());
        })
        .join();
    });
}

#[test]
fn a_kill_ends_a_command_with_an_error() {
    if on_threads() {
        return;
    }
    in_time(|| {
        let begun = || is_blocked(&mut connect(1), 1);
        let result: Option<Result<(), RedisError>> =
            killed(begun, || (), || redis::cmd("BLPOP").arg("nobody-pushes").arg(0).query(&mut connect(0)));
        let error = result.expect("it returned").expect_err("it failed");
        assert!(error.to_string().contains("canceled"), "{error}");
        // Dropped with its connection, of which the server is told.
        until(|| is_blocked(&mut connect(1), 0));
    });
}

fn is_blocked(connection: &mut Connection, clients: u32) -> bool {
    let info: String = redis::cmd("INFO").arg("clients").query(connection).expect("an answer");
    info.contains(&format!("blocked_clients:{clients}\r"))
}
