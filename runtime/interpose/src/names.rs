//! Names of hosts. A look-up is libc's own, on a thread for name resolution: what it does inside (files, DNS, whatever nsswitch.conf
//! names) cannot be reached from here.
//!
//! The resolver's own settings (`res_init`, `_res`) belong to a thread in glibc, so what a program changes there by hand does not
//! reach look-ups made in greenlets; `RES_OPTIONS`, `HOSTALIASES` and resolv.conf do. `res_query` and its like wait in place.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::{IpAddr, Ipv6Addr};
use std::ptr;

use greenlet::foreign;
use libc::{addrinfo, hostent, size_t, sockaddr, socklen_t};

use crate::aside::{self, Passed};
use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::real::real;

unsafe extern "C" {
    fn __h_errno_location() -> *mut c_int;
}

fn h_errno() -> c_int {
    // SAFETY: glibc gives the address of the thread's own, which lives as long as the thread.
    unsafe { *__h_errno_location() }
}

fn set_h_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *__h_errno_location() = value };
}

/// A list of addresses that goes with this.
struct Found {
    code: c_int,
    errno: c_int,
    list: *mut addrinfo,
}

// SAFETY: libc allocates the list for whoever frees it.
unsafe impl Send for Found {}

impl Drop for Found {
    fn drop(&mut self) {
        if !self.list.is_null() {
            // SAFETY: it comes from getaddrinfo and has been given to nobody.
            unsafe { libc::freeaddrinfo(self.list) };
        }
    }
}

/// getaddrinfo(3). Runs on a thread for name resolution unless there is nothing to look up; a kill ends it at once, with `EAI_SYSTEM` and
/// `ECANCELED`.
///
/// # Safety
/// As getaddrinfo(3): the strings and hints are valid or null, the result's place is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    list: *mut *mut addrinfo,
) -> c_int {
    let libcs =
        real!(fn getaddrinfo(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int);
    // SAFETY: the caller's promise.
    let plain = || unsafe { libcs(node, service, hints, list) };
    // SAFETY: as above.
    let literal = || unsafe {
        hints.as_ref().is_some_and(|hints| hints.ai_flags & libc::AI_NUMERICHOST != 0)
            || c_str(node).is_none_or(is_literal)
    };
    let Some(call) = gate::enter(Call::getaddrinfo) else { return plain() };
    if literal() {
        drop(call);
        return plain();
    }
    // Copies, since the look-up may go on when the caller has been killed.
    // SAFETY: as above.
    let (node, service, hints) = unsafe {
        let hints = hints
            .as_ref()
            .map(|hints| (hints.ai_flags, hints.ai_family, hints.ai_socktype, hints.ai_protocol));
        (c_str(node).map(CStr::to_owned), c_str(service).map(CStr::to_owned), hints)
    };
    let found = foreign::look_up(move || {
        let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        // SAFETY: zeros are valid hints: none.
        let mut asked: addrinfo = unsafe { std::mem::zeroed() };
        if let Some(hints) = hints {
            (asked.ai_flags, asked.ai_family, asked.ai_socktype, asked.ai_protocol) = hints;
        }
        let asked = if hints.is_some() { &raw const asked } else { ptr::null() };
        let mut list = ptr::null_mut();
        // SAFETY: the strings and hints are the copies.
        let done = aside::with_errno(|| unsafe { libcs(text(&node), text(&service), asked, &raw mut list) });
        let (code, errno) = done.get();
        Found { code, errno, list: if code == 0 { list } else { ptr::null_mut() } }
    });
    match found {
        None => {
            call.fail(libc::ECANCELED);
            libc::EAI_SYSTEM
        }
        Some(mut found) => {
            if found.code == 0 {
                // SAFETY: the caller's promise.
                unsafe { list.write(std::mem::replace(&mut found.list, ptr::null_mut())) };
            } else {
                call.fail(found.errno);
            }
            found.code
        }
    }
}

/// getnameinfo(3). Runs on a thread for name resolution unless only numbers are asked for; a kill waits for its end.
///
/// # Safety
/// As getnameinfo(3): the address and both buffers are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_length: socklen_t,
    service: *mut c_char,
    service_length: socklen_t,
    flags: c_int,
) -> c_int {
    let libcs = real!(
        fn getnameinfo(*const sockaddr, socklen_t, *mut c_char, socklen_t, *mut c_char, socklen_t, c_int) -> c_int
    );
    // SAFETY: the caller's promise.
    let plain = || unsafe { libcs(address, length, host, host_length, service, service_length, flags) };
    let by_number = |buffer: *mut c_char, flag| buffer.is_null() || flags & flag != 0;
    if by_number(host, libc::NI_NUMERICHOST) && by_number(service, libc::NI_NUMERICSERV) {
        return plain();
    }
    let Some(call) = gate::enter(Call::getnameinfo) else { return plain() };
    let (code, errno) = elsewhere(plain);
    if code == libc::EAI_SYSTEM {
        call.fail(errno);
    }
    code
}

/// Runs `f` on a thread for name resolution; gives its `errno`, and carries `h_errno` over.
fn elsewhere<R>(f: impl FnOnce() -> R) -> (R, c_int) {
    let f = Passed(f);
    // What C's functions say on failure only is to be left as it is otherwise.
    let before = h_errno();
    let done = foreign::unblock_names(move || {
        set_h_errno(before);
        let done = aside::with_errno(|| f.get()()).get();
        Passed((done, h_errno()))
    });
    let ((result, errno), h_errno) = done.get();
    set_h_errno(h_errno);
    (result, errno)
}

fn host(call: Entered, plain: impl FnOnce() -> *mut hostent) -> *mut hostent {
    let (Passed(found), errno) = elsewhere(|| Passed(plain()));
    if found.is_null() && errno != 0 {
        call.fail(errno);
    }
    found
}

fn host_r(call: Entered, plain: impl FnOnce() -> c_int) -> c_int {
    let (code, errno) = elsewhere(plain);
    if code != 0 && errno != 0 {
        call.fail(errno);
    }
    code
}

/// gethostbyname(3). Runs on a thread for name resolution, except for an address; a kill waits for its end. The result is one for
/// the whole process, as ever.
///
/// # Safety
/// As gethostbyname(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    let libcs = real!(fn gethostbyname(*const c_char) -> *mut hostent);
    // SAFETY: the caller's promise.
    unsafe {
        match enter(Call::gethostbyname, name) {
            Some(call) => host(call, || libcs(name)),
            None => libcs(name),
        }
    }
}

/// gethostbyname2(3). As [`gethostbyname`].
///
/// # Safety
/// As gethostbyname(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut hostent {
    let libcs = real!(fn gethostbyname2(*const c_char, c_int) -> *mut hostent);
    // SAFETY: the caller's promise.
    unsafe {
        match enter(Call::gethostbyname2, name) {
            Some(call) => host(call, || libcs(name, family)),
            None => libcs(name, family),
        }
    }
}

/// gethostbyaddr(3). As [`gethostbyname`].
///
/// # Safety
/// As gethostbyaddr(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyaddr(
    address: *const c_void,
    length: socklen_t,
    kind: c_int,
) -> *mut hostent {
    let libcs = real!(fn gethostbyaddr(*const c_void, socklen_t, c_int) -> *mut hostent);
    // SAFETY: the caller's promise.
    unsafe {
        match gate::enter(Call::gethostbyaddr) {
            Some(call) => host(call, || libcs(address, length, kind)),
            None => libcs(address, length, kind),
        }
    }
}

/// gethostbyname_r(3). As [`gethostbyname`], into the caller's own memory.
///
/// # Safety
/// As gethostbyname_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    let libcs = real!(
        fn gethostbyname_r(*const c_char, *mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int) -> c_int
    );
    // SAFETY: the caller's promise.
    unsafe {
        match enter(Call::gethostbyname_r, name) {
            Some(call) => host_r(call, || libcs(name, entry, buffer, length, result, error)),
            None => libcs(name, entry, buffer, length, result, error),
        }
    }
}

/// gethostbyname2_r(3). As [`gethostbyname_r`].
///
/// # Safety
/// As gethostbyname_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    let libcs = real!(
        fn gethostbyname2_r(
            *const c_char, c_int, *mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int
        ) -> c_int
    );
    // SAFETY: the caller's promise.
    unsafe {
        match enter(Call::gethostbyname2_r, name) {
            Some(call) => host_r(call, || libcs(name, family, entry, buffer, length, result, error)),
            None => libcs(name, family, entry, buffer, length, result, error),
        }
    }
}

/// gethostbyaddr_r(3). As [`gethostbyname_r`].
///
/// # Safety
/// As gethostbyaddr_r(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gethostbyaddr_r(
    address: *const c_void,
    address_length: socklen_t,
    kind: c_int,
    entry: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    result: *mut *mut hostent,
    error: *mut c_int,
) -> c_int {
    let libcs = real!(
        fn gethostbyaddr_r(
            *const c_void, socklen_t, c_int, *mut hostent, *mut c_char, size_t, *mut *mut hostent, *mut c_int
        ) -> c_int
    );
    // SAFETY: the caller's promise.
    unsafe {
        match gate::enter(Call::gethostbyaddr_r) {
            Some(call) => {
                host_r(call, || libcs(address, address_length, kind, entry, buffer, length, result, error))
            }
            None => libcs(address, address_length, kind, entry, buffer, length, result, error),
        }
    }
}

/// [`gate::enter`] for a name that is to be looked up.
///
/// # Safety
/// The name is a C string or null.
unsafe fn enter(call: Call, name: *const c_char) -> Option<Entered> {
    let call = gate::enter(call)?;
    // SAFETY: the caller's promise.
    let literal = unsafe { c_str(name) }.is_none_or(is_literal);
    (!literal).then_some(call)
}

/// # Safety
/// A C string that outlives the result, or null.
unsafe fn c_str<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// Whether it is an address, with a scope perhaps, for which there is nothing to look up.
fn is_literal(name: &CStr) -> bool {
    let Ok(name) = name.to_str() else { return false };
    name.parse::<IpAddr>().is_ok()
        || name.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_look_up_and_names_do() {
        for address in [c"127.0.0.1", c"::1", c"fe80::1%lo", c"::ffff:1.2.3.4"] {
            assert!(is_literal(address), "{address:?}");
        }
        for name in [c"localhost", c"1.2.3.4.example", c"", c"a%b", c"\xff"] {
            assert!(!is_literal(name), "{name:?}");
        }
    }
}
