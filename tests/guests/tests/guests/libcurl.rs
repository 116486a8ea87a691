//! libcurl with OpenSSL, by a small C program: `poll`, `recv`, `send`, and a thread of its own for each name that it resolves.

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::sync::OnceLock;

use greenserve_guests::tls::https;
use greenserve_guests::together;
use greenserve_tests::c;

const SOURCE: &str = r#"
#include <curl/curl.h>
#include <stddef.h>

static size_t ignore(char *data, size_t size, size_t count, void *unused) {
    (void)data;
    (void)unused;
    return size * count;
}

int guest_start(void) {
    return curl_global_init(CURL_GLOBAL_ALL);
}

/* The status, or minus curl's error. */
long guest_get(const char *url, const char *certificate, int verbose) {
    CURL *curl = curl_easy_init();
    long status = 0;
    if (!curl) return -1;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, certificate);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_VERBOSE, (long)verbose);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    else
        status = -(long)code;
    curl_easy_cleanup(curl);
    return status;
}

const char *guest_error(int code) {
    return curl_easy_strerror(code);
}
"#;

struct Program {
    get: unsafe extern "C" fn(*const c_char, *const c_char, c_int) -> c_long,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
}

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let library = c::load_with(SOURCE, &["-O2", "-D_FORTIFY_SOURCE=2", "-lcurl"]);
        // SAFETY: these are the types of the functions in the source above; nothing uses the library yet.
        unsafe {
            let start: unsafe extern "C" fn() -> c_int = library.function("guest_start");
            assert_eq!(start(), 0);
            Program { get: library.function("guest_get"), error: library.function("guest_error") }
        }
    })
}

fn get(host: &str) {
    let server = https();
    let url = CString::new(format!("https://{host}:{}/slow", server.addr.port())).expect("no NUL");
    let certificate = CString::new(server.file.as_os_str().as_encoded_bytes()).expect("no NUL");
    let verbose = std::env::var_os("GUESTS_VERBOSE").is_some();
    // SAFETY: C strings.
    let status = unsafe { (program().get)(url.as_ptr(), certificate.as_ptr(), verbose.into()) };
    // SAFETY: a C string that lives for ever.
    let error = || unsafe { CStr::from_ptr((program().error)(-status as c_int)) };
    assert_eq!(status, 200, "{:?}", error());
}

#[test]
fn requests_wait_together() {
    https();
    program();
    together(10, |_| (), |()| get("127.0.0.1"));
}

#[test]
fn names_are_resolved_meanwhile() {
    https();
    program();
    together(10, |_| (), |()| get("localhost"));
}
