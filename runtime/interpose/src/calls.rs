//! Which calls there are: each once, for the switches, the documentation and the tests.

/// `calls! { group: name name …; … }`
macro_rules! calls {
    ($($(#[$doc:meta])* $group:ident: $($name:ident)*;)*) => {
        /// A call that is interposed. Bears the name of the C function.
        #[allow(non_camel_case_types, missing_docs, reason = "they are C's names, and documented by C")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Call {
            $($($name,)*)*
        }

        impl Call {
            /// All of them.
            pub const ALL: &[Call] = &[$($(Call::$name,)*)*];

            /// The names of the groups.
            pub const GROUPS: &[&str] = &[$(stringify!($group),)*];

            /// The name of the C function.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Call::$name => stringify!($name),)*)*
                }
            }

            /// What it is about, as in the table of the documentation.
            pub fn group(self) -> &'static str {
                match self {
                    $($(Call::$name => stringify!($group),)*)*
                }
            }
        }
    };
}

calls! {
    time: nanosleep clock_nanosleep usleep sleep thrd_sleep;
    streams: read readv preadv2 write writev pwritev2 sendfile splice tee vmsplice;
    sockets: recv recvfrom recvmsg recvmmsg send sendto sendmsg sendmmsg connect accept accept4;
    /// `dup` ends nothing and does not wait. `ioctl` neither: that `FIONBIO` sets a descriptor's mode is seen when a call asks for
    /// the mode. `fcntl` is here for its locks.
    descriptors: close close_range closefrom dup2 dup3 fcntl;
    waiting: poll ppoll select pselect epoll_wait epoll_pwait epoll_pwait2;
    futex: futex;
    mutex: pthread_mutex_lock pthread_mutex_timedlock pthread_mutex_clocklock;
    condition: pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait;
    rwlock: pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock
        pthread_rwlock_clockrdlock pthread_rwlock_clockwrlock;
    semaphore: sem_wait sem_timedwait sem_clockwait;
    thread: pthread_join pthread_timedjoin_np pthread_clockjoin_np pthread_barrier_wait pthread_once pthread_spin_lock;
    names: getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyname_r gethostbyname2_r gethostbyaddr gethostbyaddr_r;
    processes: wait waitpid wait3 wait4 waitid system pclose;
    locks: flock lockf;
    files: open openat fsync fdatasync;
    signals: sigaction signal sysv_signal sigset;
}
