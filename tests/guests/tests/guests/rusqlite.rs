//! `rusqlite` with SQLite's own source: locks of files that are asked for again after a nap (`usleep`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenserve_tests::Scratch;
use rusqlite::{Connection, TransactionBehavior};

use super::{in_time, spawn, until};

#[test]
fn those_who_wait_for_the_database_let_its_holder_run() {
    const WRITERS: usize = 10;
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.join("database");
        Connection::open(&path)
            .and_then(|database| database.execute_batch("create table rows (who integer)"))
            .expect("a table");
        let (held, waiting) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let released = Arc::<AtomicBool>::default();
        let holder = {
            let (path, held, released, waiting) =
                (path.clone(), held.clone(), released.clone(), waiting.clone());
            spawn(move || {
                let mut database = Connection::open(path).expect("the database");
                let transaction =
                    database.transaction_with_behavior(TransactionBehavior::Exclusive).expect("it begins");
                held.store(true, Ordering::SeqCst);
                until(|| waiting.load(Ordering::SeqCst) == WRITERS);
                // Long enough that all have come to their naps.
                std::thread::sleep(Duration::from_millis(300));
                transaction.execute("insert into rows values (-1)", ()).expect("a row");
                released.store(true, Ordering::SeqCst);
                transaction.commit().expect("it ends");
            })
        };
        until(|| held.load(Ordering::SeqCst));
        let writers: Vec<_> = (0..WRITERS)
            .map(|who| {
                let (path, released, waiting) = (path.clone(), released.clone(), waiting.clone());
                spawn(move || {
                    let database = Connection::open(path).expect("the database");
                    database.busy_timeout(Duration::from_secs(30)).expect("a timeout");
                    assert!(!released.load(Ordering::SeqCst));
                    waiting.fetch_add(1, Ordering::SeqCst);
                    database
                        .execute("insert into rows values (?)", [who as i64])
                        .expect("a row, after a while");
                    assert!(released.load(Ordering::SeqCst), "it had the database for itself");
                })
            })
            .collect();
        holder.join();
        writers.into_iter().for_each(|writer| writer.join());
        let database = Connection::open(path).expect("the database");
        let rows: i64 =
            database.query_row("select count(*) from rows", (), |row| row.get(0)).expect("a count");
        assert_eq!(rows, WRITERS as i64 + 1);
    });
}

#[test]
fn a_busy_timeout_ends() {
    in_time(|| {
        let scratch = Scratch::new();
        let path = scratch.join("database");
        let mut holder = Connection::open(&path).expect("a database");
        let _held = holder.transaction_with_behavior(TransactionBehavior::Exclusive).expect("it begins");
        let refused = spawn(move || {
            let database = Connection::open(path).expect("the database");
            database.busy_timeout(Duration::from_millis(100)).expect("a timeout");
            database.execute_batch("create table rows (who integer)").expect_err("it is held")
        });
        let error = refused.join();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    });
}
