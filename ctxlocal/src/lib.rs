//! ctxlocal
