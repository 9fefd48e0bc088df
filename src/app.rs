//! Binds, wires, runs and stops everything; the only file that sees every module.
