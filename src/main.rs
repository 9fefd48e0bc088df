//! Arguments → TLS provider → command → exit code.

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match tidegate::cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return tidegate::cli::refuse_usage(&error),
    };
    tidegate::net::tls::install_provider();
    tidegate::cli::main(cli)
}
