//! The names of addresses, by getnameinfo(3). Blocks.

use std::ffi::{CStr, c_char};
use std::io;
use std::net::IpAddr;
use std::ptr;

use socket2::SockAddr;

/// The name of an address; `NotFound` if it has none.
pub(crate) fn name_of(address: IpAddr) -> io::Result<String> {
    let address = SockAddr::from(std::net::SocketAddr::from((address, 0)));
    let mut name = [0 as c_char; libc::NI_MAXHOST as usize];
    // SAFETY: the address and its length are socket2's, the buffer is ours and its length is told, and no service is
    // asked for.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr(),
            name.len() as libc::socklen_t,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    match code {
        // SAFETY: on success the buffer holds a string with its end.
        0 => Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()),
        libc::EAI_SYSTEM => Err(io::Error::last_os_error()),
        libc::EAI_NONAME => Err(io::Error::new(io::ErrorKind::NotFound, "it has none")),
        code => {
            // SAFETY: gai_strerror returns a string of static storage for every code.
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) };
            Err(io::Error::other(text.to_string_lossy().into_owned()))
        }
    }
}
