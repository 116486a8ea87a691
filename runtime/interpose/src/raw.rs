//! System calls made by hand, below everything that this crate defines.

use std::arch::asm;

use libc::{c_int, c_long};

/// A system call. Gives what the kernel gives: an error is a negative `errno`.
///
/// # Safety
/// As the call asks.
#[inline(always)]
pub(crate) unsafe fn syscall6(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: it changes the result's register, on x86-64 also rcx and r11, and memory as the
    // call says, which is the caller's to see to.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, preserves_flags)
        )
    };
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack, preserves_flags)
        )
    };
    result
}

/// `syscall!(SYS_read, fd, buffer, count)`: a system call of up to six arguments, each of which is cast to a `usize`. Gives
/// what the kernel gives.
macro_rules! syscall {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        $crate::raw::syscall!(@ $number, [$($argument,)* 0usize, 0usize, 0usize, 0usize, 0usize, 0usize,])
    };
    (@ $number:ident, [$a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $($rest:expr,)*]) => {
        $crate::raw::syscall6(
            libc::$number as libc::c_long,
            ($a) as usize, ($b) as usize, ($c) as usize, ($d) as usize, ($e) as usize, ($f) as usize,
        )
    };
}
pub(crate) use syscall;

/// This thread's `errno`.
#[inline(always)]
pub(crate) fn errno() -> c_int {
    // SAFETY: libc gives the address of the thread's own errno, which lives as long as the thread.
    unsafe { *libc::__errno_location() }
}

#[inline(always)]
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// What a C function gives for what the kernel gave: the value, or -1 and `errno`.
#[inline(always)]
pub(crate) fn result(kernels: isize) -> isize {
    if (-4095..0).contains(&kernels) {
        set_errno(-kernels as c_int);
        return -1;
    }
    kernels
}
