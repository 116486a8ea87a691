//! `postgres`: tokio's event loop around each query (`epoll_wait`), a runtime for each connection.

use std::time::Duration;

use postgres::{Client, NoTls};

use super::{in_time, killed, on_threads, spawn, until};
use greenserve_guests::{server, together};

pub fn connect(_: usize) -> Client {
    Client::connect(&server("GUESTS_POSTGRES"), NoTls).expect("a connection")
}

#[test]
fn queries_wait_together() {
    together(20, connect, |client| {
        client.batch_execute("select pg_sleep(0.2)").expect("an answer");
    });
}

#[test]
fn prepared_statements_and_transactions_wait_together() {
    together(10, connect, |client| {
        let mut transaction = client.transaction().expect("it begins");
        let row = transaction.query_one("select pg_sleep(0.2)::text, $1::int4 + 1", &[&41]).expect("a row");
        assert_eq!(row.get::<_, i32>(1), 42);
        transaction.commit().expect("it ends");
    });
}

/// A connection that was made by a name has a thread that resolved it. Tokio waits for that thread at the end by a thread-local of
/// which each thread has one, so one greenlet does so at a time.
#[test]
fn a_host_s_name_is_resolved_in_a_greenlet() {
    static ENDS: std::sync::Mutex<()> = std::sync::Mutex::new(());
    together(
        5,
        |_| server("GUESTS_POSTGRES").replace("127.0.0.1", "localhost"),
        |address| {
            let mut client = Client::connect(address, NoTls).expect("a connection");
            client.batch_execute("select pg_sleep(0.2)").expect("an answer");
            let _one_by_one = ENDS.lock();
            drop(client);
        },
    );
}

#[test]
fn a_lock_in_the_database_is_waited_for_while_its_holder_runs() {
    in_time(|| {
        let holder = spawn(|| {
            let mut client = connect(0);
            client.batch_execute("select pg_advisory_lock(7)").expect("a lock");
            client
        });
        let mut holder = holder.join();
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                spawn(|| {
                    connect(0)
                        .batch_execute("select pg_advisory_lock(7); select pg_advisory_unlock(7)")
                        .expect("a lock")
                })
            })
            .collect();
        spawn(move || {
            let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
            while holder.query_one(waiting, &[]).expect("a row").get::<_, i64>(0) < 5 {
                std::thread::sleep(Duration::from_millis(2));
            }
            holder.batch_execute("select pg_advisory_unlock(7)").expect("the lock's end");
        })
        .join();
        waiters.into_iter().for_each(|waiter| waiter.join());
    });
}

#[test]
fn a_notification_wakes_its_listener() {
    in_time(|| {
        let mut listener = connect(0);
        listener.batch_execute("listen news").expect("an answer");
        let heard = spawn(move || {
            let mut notifications = listener.notifications();
            let mut news = notifications.timeout_iter(Duration::from_secs(30));
            use postgres::fallible_iterator::FallibleIterator;
            news.next().expect("no error").expect("no end").payload().to_owned()
        });
        let says = spawn(|| connect(1).batch_execute("notify news, 'something'").expect("an answer"));
        says.join();
        assert_eq!(heard.join(), "something");
    });
}

/// Tokio cannot be told of a kill: its event loop goes on until the answer is there, or the connection has ended.
#[test]
fn a_kill_waits_for_the_query_s_end_and_harms_nobody() {
    if on_threads() {
        return;
    }
    in_time(|| {
        let query = "select pg_sleep(31)";
        let sleeping = || {
            let running =
                connect(1).query_one("select count(*) from pg_stat_activity where query = $1", &[&query]);
            running.expect("a row").get::<_, i64>(0) > 0
        };
        let end = || {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where query = $1";
            assert_eq!(connect(1).execute(end, &[&query]).expect("an answer"), 1, "it still runs");
        };
        let result = killed(sleeping, end, move || connect(0).batch_execute(query));
        assert!(result.expect("it returned").is_err());
        until(|| !sleeping());
        // And the next one is none the worse for it.
        spawn(|| connect(2).batch_execute("select 1").expect("an answer")).join();
    });
}
