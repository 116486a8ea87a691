//! `mysql`: blocking sockets by socket2, a pool of its own with a condition variable.

use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, Pool, PoolConstraints, PoolOpts};

use super::{in_time, killed, on_threads, spawn, until};
use greenserve_guests::{server, together};

fn opts() -> Opts {
    Opts::from_url(&server("GUESTS_MYSQL")).expect("an address")
}

fn connect(_: usize) -> Conn {
    Conn::new(opts()).expect("a connection")
}

#[test]
fn queries_wait_together() {
    together(20, connect, |connection| {
        let slept: Option<i64> = connection.query_first("select sleep(0.2)").expect("an answer");
        assert_eq!(slept, Some(0), "0: it has slept to the end");
    });
}

#[test]
fn those_who_wait_for_a_connection_of_the_pool_let_those_who_have_one_run() {
    in_time(|| {
        let constraints = PoolConstraints::new(3, 3).expect("3 are 3");
        let opts =
            mysql::OptsBuilder::from_opts(opts()).pool_opts(PoolOpts::new().with_constraints(constraints));
        let pool = spawn(move || Pool::new(opts).expect("a pool")).join();
        let sleep = |pool: Pool| {
            let mut connection = pool.get_conn().expect("a connection");
            connection.query_drop("select sleep(0.2)").expect("an answer");
        };
        let one = {
            let pool = pool.clone();
            spawn(move || {
                let begin = Instant::now();
                sleep(pool);
                begin.elapsed()
            })
            .join()
        };
        let begin = Instant::now();
        let workers: Vec<_> = (0..12).map(|_| pool.clone()).map(|pool| spawn(move || sleep(pool))).collect();
        workers.into_iter().for_each(|worker| worker.join());
        let all = begin.elapsed();
        // 12 by 3 take the time of 4.
        assert!(all < one * 8, "12 on 3 connections: {all:?}, one alone: {one:?}");
        assert!(all > one * 2, "12 on 3 connections: {all:?}, one alone: {one:?}");
    });
}

#[test]
fn a_kill_ends_a_query_with_an_error() {
    if on_threads() {
        return;
    }
    in_time(|| {
        let query = "select sleep(31)";
        let sleeping = || {
            let running: Option<i64> = connect(1)
                .exec_first("select count(*) from information_schema.processlist where info = ?", (query,))
                .expect("an answer");
            running.expect("a count") > 0
        };
        let result = killed(sleeping, || (), move || connect(0).query_drop(query));
        let error = result.expect("it returned").expect_err("it failed");
        assert!(error.to_string().contains("canceled"), "{error}");
        // The server looks at its client when it has slept, unless it is told.
        let mut connection = connect(1);
        let left: Vec<u64> = connection
            .exec("select id from information_schema.processlist where info = ?", (query,))
            .expect("an answer");
        left.into_iter().for_each(|id| connection.query_drop(format!("kill {id}")).expect("an answer"));
        until(|| !sleeping());
    });
}
