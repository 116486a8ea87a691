//! Names of hosts. libc's own functions are slow here: a library that is loaded before libc holds each look-up until the test lets
//! it answer, which another greenlet does.

use std::ffi::{c_int, c_long};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use greenserve_tests::{c, in_process_with};

/// What stands before libc: notes which thread asks, and waits until it may answer.
const SLOW: &str = r#"
    #include <dlfcn.h>
    #include <errno.h>
    #include <netdb.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    static volatile int asked_by, answers;
    int asker(void) { return asked_by; }
    void ask(void) { asked_by = 0; }
    void answer(int count) { __sync_fetch_and_add(&answers, count); }
    static void wait_for_leave(const char *name) {
        asked_by = gettid();
        if (name && !strcmp(name, "127.0.0.1")) return;
        while (answers <= 0) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 1000000 }, 0);
        __sync_fetch_and_sub(&answers, 1);
    }
    static int fails(const char *name) { return name && !strcmp(name, "fails.test"); }
    #define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

    int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {
        wait_for_leave(n); if (fails(n)) { errno = EIO; return EAI_SYSTEM; }
        return NEXT(getaddrinfo)(n, s, h, r);
    }
    int getnameinfo(const struct sockaddr *a, socklen_t l, char *h, socklen_t hl, char *s, socklen_t sl, int f) {
        wait_for_leave(0); return NEXT(getnameinfo)(a, l, h, hl, s, sl, f);
    }
    static struct hostent *failed(void) { h_errno = NO_RECOVERY; errno = EIO; return 0; }
    struct hostent *gethostbyname(const char *n) {
        wait_for_leave(n); return fails(n) ? failed() : NEXT(gethostbyname)(n);
    }
    struct hostent *gethostbyname2(const char *n, int f) {
        wait_for_leave(n); return fails(n) ? failed() : NEXT(gethostbyname2)(n, f);
    }
    struct hostent *gethostbyaddr(const void *a, socklen_t l, int f) {
        wait_for_leave(0); return NEXT(gethostbyaddr)(a, l, f);
    }
    int gethostbyname_r(const char *n, struct hostent *e, char *b, size_t l, struct hostent **r, int *x) {
        wait_for_leave(n); return NEXT(gethostbyname_r)(n, e, b, l, r, x);
    }
    int gethostbyname2_r(const char *n, int f, struct hostent *e, char *b, size_t l, struct hostent **r, int *x) {
        wait_for_leave(n); return NEXT(gethostbyname2_r)(n, f, e, b, l, r, x);
    }
    int gethostbyaddr_r(const void *a, socklen_t al, int f, struct hostent *e, char *b, size_t l, struct hostent **r, int *x) {
        wait_for_leave(0); return NEXT(gethostbyaddr_r)(a, al, f, e, b, l, r, x);
    }
"#;

/// Each looks something up, and gives a number made of the answer; with a zero below 1000 if it is no good answer.
const LOOKS_UP: &str = r#"
    #include <arpa/inet.h>
    #include <errno.h>
    #include <netdb.h>
    #include <netinet/in.h>
    #include <string.h>
    #include <sys/socket.h>

    static long of_text(long sum, const char *text) { while (*text) sum = (sum * 31 + *text++) & 0xffffffffff; return sum + 1000; }
    static long of(struct hostent *e) {
        if (!e) return -h_errno;
        long sum = of_text(e->h_addrtype, e->h_name);
        for (int i = 0; i < e->h_length; i++) sum = sum * 31 + (unsigned char)e->h_addr_list[0][i];
        return sum & 0xffffffffff;
    }
    static struct sockaddr_in local(void) {
        struct sockaddr_in a; memset(&a, 0, sizeof a); a.sin_family = AF_INET; a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.sin_port = htons(80); return a;
    }
    long by_getaddrinfo(void) {
        struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME }, *list;
        int code = getaddrinfo("localhost", "4711", &hints, &list); if (code) return code;
        struct sockaddr_in *a = (void *)list->ai_addr;
        long sum = of_text(a->sin_addr.s_addr, list->ai_canonname) + ntohs(a->sin_port) + list->ai_socktype;
        freeaddrinfo(list); return sum;
    }
    long by_getnameinfo(void) {
        struct sockaddr_in a = local(); char host[200], service[50];
        int code = getnameinfo((void *)&a, sizeof a, host, sizeof host, service, sizeof service, NI_NUMERICSERV);
        return code ? code : of_text(of_text(0, host), service);
    }
    long by_gethostbyname(void) { return of(gethostbyname("localhost")); }
    long by_gethostbyname2(void) { return of(gethostbyname2("localhost", AF_INET)); }
    long by_gethostbyaddr(void) {
        struct sockaddr_in a = local(); struct hostent *e = gethostbyaddr(&a.sin_addr, 4, AF_INET);
        return e ? of(e) : 1000 + h_errno;
    }
    long by_gethostbyname_r(void) {
        struct hostent e, *r; char b[2000]; int x; int code = gethostbyname_r("localhost", &e, b, sizeof b, &r, &x);
        return code ? -code : r == &e ? of(r) : 0;
    }
    long by_gethostbyname2_r(void) {
        struct hostent e, *r; char b[2000]; int x; int code = gethostbyname2_r("localhost", AF_INET, &e, b, sizeof b, &r, &x);
        return code ? -code : r == &e ? of(r) : 0;
    }
    long by_gethostbyaddr_r(void) {
        struct sockaddr_in a = local(); struct hostent e, *r; char b[2000]; int x;
        int code = gethostbyaddr_r(&a.sin_addr, 4, AF_INET, &e, b, sizeof b, &r, &x);
        return code ? -code : r ? of(r) : 1000 + x;
    }
    long no_room(void) {
        struct hostent e, *r; char b[1]; int x; return gethostbyname_r("localhost", &e, b, sizeof b, &r, &x);
    }
    long an_error_of_getaddrinfo(void) {
        struct addrinfo *list; errno = 0; return getaddrinfo("fails.test", 0, 0, &list) == EAI_SYSTEM ? errno : -1;
    }
    long an_error_of_gethostbyname(void) {
        errno = h_errno = 0; if (gethostbyname("fails.test")) return -1; return h_errno * 1000 + errno;
    }
    long an_error_of_gethostbyname2(void) {
        errno = h_errno = 0; if (gethostbyname2("fails.test", AF_INET)) return -1; return h_errno * 1000 + errno;
    }
    long an_address(void) {
        struct addrinfo *list; if (getaddrinfo("127.0.0.1", 0, 0, &list)) return -1; freeaddrinfo(list);
        return gethostbyname("127.0.0.1") ? 0 : -2;
    }
"#;

/// What the library before libc can do.
#[derive(Clone, Copy)]
struct Slow {
    asker: extern "C" fn() -> c_int,
    ask: extern "C" fn(),
    answer: extern "C" fn(c_int),
}

impl Slow {
    fn here() -> Slow {
        // SAFETY: the names are C strings; the functions are those of `SLOW`.
        unsafe {
            let find = |name: &std::ffi::CStr| {
                let address = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
                assert!(!address.is_null(), "the library is loaded");
                address
            };
            Slow {
                asker: std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> c_int>(find(c"asker")),
                ask: std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(find(c"ask")),
                answer: std::mem::transmute::<*mut libc::c_void, extern "C" fn(c_int)>(find(c"answer")),
            }
        }
    }

    /// Runs `looks_up` in a greenlet; another sees that a thread asks which is not this one, and has it answered.
    fn answered_by_another<R: 'static>(self, looks_up: impl FnOnce() -> R + 'static) -> R {
        (self.ask)();
        let asks = greenlet::spawn(looks_up);
        greenlet::spawn(move || {
            while (self.asker)() == 0 {
                greenlet::sleep(Duration::from_millis(1));
            }
            // SAFETY: has no conditions.
            assert_ne!((self.asker)(), unsafe { libc::gettid() });
            (self.answer)(1);
        })
        .join()
        .unwrap();
        asks.join().unwrap()
    }
}

/// Runs `body` in a process that has the library loaded before libc.
fn with_slow_names(test: &str, body: impl FnOnce(Slow) + Send + 'static) {
    let mut compiled = None;
    let prepare = |process: &mut std::process::Command| {
        let (_, library) = compiled.insert(c::compile_with(SLOW, &["-O2"]));
        process.env("LD_PRELOAD", library);
    };
    in_process_with(test, prepare, || body(Slow::here()));
}

type LooksUp = extern "C" fn() -> c_long;

fn function(library: &c::Library, name: &str) -> LooksUp {
    // SAFETY: all that are asked for are such functions.
    unsafe { library.function(name) }
}

#[test]
fn each_look_up_parks_and_answers_as_the_plain_call_does() {
    with_slow_names("names::each_look_up_parks_and_answers_as_the_plain_call_does", |slow| {
        let library = c::load(LOOKS_UP);
        let all = [
            "by_getaddrinfo",
            "by_getnameinfo",
            "by_gethostbyname",
            "by_gethostbyname2",
            "by_gethostbyaddr",
            "by_gethostbyname_r",
            "by_gethostbyname2_r",
            "by_gethostbyaddr_r",
        ];
        for name in all {
            let looks_up = function(&library, name);
            let answer = slow.answered_by_another(move || looks_up());
            assert!(answer >= 1000, "{name}: {answer}");
            (slow.answer)(1);
            assert_eq!(std::thread::spawn(move || looks_up()).join().unwrap(), answer, "{name}");
        }
        let no_room = function(&library, "no_room");
        assert_eq!(slow.answered_by_another(move || no_room()), c_long::from(libc::ERANGE));
    });
}

#[test]
fn errors_come_with_errno_and_h_errno() {
    with_slow_names("names::errors_come_with_errno_and_h_errno", |slow| {
        let library = c::load(LOOKS_UP);
        let eio = c_long::from(libc::EIO);
        let all = [
            ("an_error_of_getaddrinfo", eio),
            ("an_error_of_gethostbyname", 3000 + eio),
            ("an_error_of_gethostbyname2", 3000 + eio),
        ];
        for (name, error) in all {
            let looks_up = function(&library, name);
            assert_eq!(slow.answered_by_another(move || looks_up()), error, "{name}");
            (slow.answer)(1);
            assert_eq!(std::thread::spawn(move || looks_up()).join().unwrap(), error, "{name}");
        }
    });
}

#[test]
fn an_address_is_looked_at_in_place() {
    with_slow_names("names::an_address_is_looked_at_in_place", |slow| {
        let an_address = function(&c::load(LOOKS_UP), "an_address");
        let (answer, own) = greenlet::spawn(move || {
            // SAFETY: has no conditions.
            (an_address(), unsafe { libc::gettid() })
        })
        .join()
        .unwrap();
        assert_eq!((answer, (slow.asker)()), (0, own));
    });
}

#[test]
fn many_names_are_looked_up_at_once_by_std() {
    with_slow_names("names::many_names_are_looked_up_at_once_by_std", |slow| {
        let asks: Vec<_> = (0..5)
            .map(|port| greenlet::spawn(move || ("localhost", port).to_socket_addrs().unwrap().collect()))
            .collect();
        // One after the other would have nobody to let the first answer.
        greenlet::spawn(move || {
            while (slow.asker)() == 0 {
                greenlet::sleep(Duration::from_millis(1));
            }
            (slow.answer)(5);
        })
        .join()
        .unwrap();
        for (port, ask) in asks.iter().enumerate() {
            let addresses: Vec<SocketAddr> = ask.join().unwrap();
            assert!(addresses.iter().any(|address| address.ip().is_loopback()), "{addresses:?}");
            assert!(addresses.iter().all(|address| usize::from(address.port()) == port));
        }
    });
}

#[test]
fn the_end_of_a_timeout_ends_a_look_up_at_once() {
    with_slow_names("names::the_end_of_a_timeout_ends_a_look_up_at_once", |slow| {
        let looks_up = || ("localhost", 1).to_socket_addrs().map(|_| ()).map_err(|error| error.to_string());
        let asks = greenlet::spawn(move || {
            let mut result = None;
            let _ = greenlet::timeout(Duration::from_millis(5), || {
                result = Some(looks_up());
                greenlet::yield_now()
            });
            result
        });
        let error = asks.join().unwrap().unwrap().unwrap_err();
        assert!(error.contains(&std::io::Error::from_raw_os_error(libc::ECANCELED).to_string()), "{error}");
        // What was left behind ends by itself, and others get their answers.
        (slow.answer)(1);
        assert_eq!(slow.answered_by_another(looks_up), Ok(()));
    });
}
