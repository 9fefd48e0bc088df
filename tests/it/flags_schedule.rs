//! Scheduled and gradual changes of flags, against a real Redis.

mod commands;
mod executing;
mod faults;
mod shell;
mod unused;
