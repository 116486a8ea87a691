//! libpq, by a small C program that is compiled for this and loaded: `poll` and `recv`, which libpq does itself.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use super::{in_time, killed, on_threads, until};
use greenserve_guests::{server, together};
use greenserve_tests::c;

const SOURCE: &str = r#"
#include <libpq-fe.h>

void *guest_connect(const char *info) {
    return PQconnectdb(info);
}

const char *guest_error(void *connection) {
    return PQerrorMessage(connection);
}

int guest_is_connected(void *connection) {
    return PQstatus(connection) == CONNECTION_OK;
}

int guest_query(void *connection, const char *query) {
    PGresult *result = PQexec(connection, query);
    int ok = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0;
    PQclear(result);
    return ok;
}

void guest_finish(void *connection) {
    PQfinish(connection);
}
"#;

struct Program {
    connect: unsafe extern "C" fn(*const c_char) -> *mut c_void,
    error: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    is_connected: unsafe extern "C" fn(*mut c_void) -> c_int,
    query: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    finish: unsafe extern "C" fn(*mut c_void),
}

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let said =
            std::process::Command::new("pg_config").arg("--includedir").output().expect("pg_config runs");
        let include = format!("-I{}", String::from_utf8_lossy(&said.stdout).trim());
        let library = c::load_with(SOURCE, &["-O2", "-D_FORTIFY_SOURCE=2", &include, "-lpq"]);
        // SAFETY: these are the types of the functions in the source above.
        unsafe {
            Program {
                connect: library.function("guest_connect"),
                error: library.function("guest_error"),
                is_connected: library.function("guest_is_connected"),
                query: library.function("guest_query"),
                finish: library.function("guest_finish"),
            }
        }
    })
}

struct Connection(*mut c_void);

impl Connection {
    fn new(_: usize) -> Connection {
        let address =
            CString::new(format!("{} gssencmode=disable", server("GUESTS_POSTGRES"))).expect("no NUL");
        // SAFETY: a C string.
        let connection = Connection(unsafe { (program().connect)(address.as_ptr()) });
        // SAFETY: a connection, working or not.
        assert!(unsafe { (program().is_connected)(connection.0) } == 1, "{}", connection.error());
        connection
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        let query = CString::new(query).expect("no NUL");
        // SAFETY: a connection and a C string.
        let ok = unsafe { (program().query)(self.0, query.as_ptr()) } == 1;
        if ok { Ok(()) } else { Err(self.error()) }
    }

    fn error(&self) -> String {
        // SAFETY: the message is the connection's and lives until its next call.
        unsafe { CStr::from_ptr((program().error)(self.0)) }.to_string_lossy().into_owned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more.
        unsafe { (program().finish)(self.0) };
    }
}

#[test]
fn queries_wait_together() {
    program();
    together(20, Connection::new, |connection| connection.query("select pg_sleep(0.2)").expect("an answer"));
}

#[test]
fn a_kill_ends_a_query_with_an_error() {
    if on_threads() {
        return;
    }
    program();
    in_time(|| {
        let sleeping = || {
            let running = "select 1 from pg_stat_activity where query = 'select pg_sleep(33)'";
            Connection::new(1).query(running).is_ok()
        };
        let result = killed(sleeping, || (), || Connection::new(0).query("select pg_sleep(33)"));
        let error = result.expect("it returned").expect_err("it failed");
        assert!(error.contains("canceled"), "{error}");
        let end =
            "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(33)'";
        let _ = Connection::new(1).query(end);
        until(|| !sleeping());
    });
}
