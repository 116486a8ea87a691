//! RFC 9112 and RFC 9110, rule by rule: exact bytes in, exact answers out, over real sockets. One file per section; each
//! row's name begins with the section it comes from. `table` says how a row is run, `app` what answers.

mod app;
mod table;

mod r9110_05_fields;
mod r9110_10_expect;
mod r9110_15_limits;
mod r9110_responses;
mod r9112_02_message;
mod r9112_03_request_line;
mod r9112_05_fields;
mod r9112_06_body;
mod r9112_07_chunked;
mod r9112_08_incomplete;
mod r9112_09_connection;
mod streams;
