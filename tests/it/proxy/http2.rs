//! HTTP/2 from clients: what passes, what ends a stream and what ends a connection.

mod abuse;
mod endings;
mod fatal;
mod limits;
mod malformed;
mod passing;
mod telling;
mod websocket;
