//! Phases, drain, signals, owned tasks and the ledger of what is in flight. Knows no other domain.

pub mod drain;
