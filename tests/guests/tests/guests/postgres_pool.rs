//! `r2d2` with `postgres`, as people use it: threads of its own that make connections, a lock and a condition variable of
//! parking_lot.

use std::time::{Duration, Instant};

use r2d2::Pool;
use r2d2_postgres::PostgresConnectionManager;
use r2d2_postgres::postgres::NoTls;

use super::{in_time, killed, on_threads, spawn, until};
use greenserve_guests::server;

type Connections = Pool<PostgresConnectionManager<NoTls>>;

fn pool(size: u32) -> Connections {
    let config = server("GUESTS_POSTGRES").parse().expect("an address");
    let manager = PostgresConnectionManager::new(config, NoTls);
    Pool::builder().max_size(size).connection_timeout(Duration::from_secs(30)).build(manager).expect("a pool")
}

#[test]
fn those_who_wait_for_a_connection_let_those_who_have_one_run() {
    in_time(|| {
        let pool = spawn(|| pool(4)).join();
        let sleep = |pool: Connections| {
            pool.get().expect("a connection").batch_execute("select pg_sleep(0.2)").expect("an answer")
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
        let workers: Vec<_> = (0..16).map(|_| pool.clone()).map(|pool| spawn(move || sleep(pool))).collect();
        workers.into_iter().for_each(|worker| worker.join());
        let all = begin.elapsed();
        // 16 by 4 take the time of 4.
        assert!(all < one * 9, "16 on 4 connections: {all:?}, one alone: {one:?}");
        assert_eq!(pool.state().connections, 4);
    });
}

#[test]
fn a_killed_query_gives_its_place_in_the_pool_back() {
    if on_threads() {
        return;
    }
    in_time(|| {
        let pool = spawn(|| pool(1)).join();
        let pid: i32 = pool
            .get()
            .expect("a connection")
            .query_one("select pg_backend_pid()", &[])
            .expect("a row")
            .get(0);
        let stuck = pool.clone();
        let begun = || {
            let mut client = super::postgres::connect(0);
            let state =
                client.query_one("select state || query from pg_stat_activity where pid = $1", &[&pid]);
            state.expect("a row").get::<_, &str>(0) == "activeselect pg_sleep(32)"
        };
        let end = || {
            let ended = super::postgres::connect(0).execute("select pg_terminate_backend($1)", &[&pid]);
            ended.expect("an answer");
        };
        let result = killed(begun, end, move || {
            stuck.get().expect("a connection").batch_execute("select pg_sleep(32)")
        });
        assert!(result.expect("it returned").is_err());
        until(|| pool.state().idle_connections == 1 || pool.state().connections == 0);
        let next: i32 = spawn(move || {
            pool.get().expect("a connection").query_one("select pg_backend_pid()", &[]).expect("a row").get(0)
        })
        .join();
        assert_ne!(next, pid, "the connection that had ended was dropped");
    });
}
