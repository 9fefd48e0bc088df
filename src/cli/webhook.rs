//! `tidegate webhook`: the mutating admission webhook.

mod cert;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::inject::Chosen;
use super::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, EXIT_USAGE, complain};
use crate::kube::webhook::review::OnRefusal;
use crate::kube::webhook::{self, Settings};
use crate::lifecycle::machine::Outcome;
use crate::net::listen::BindError;
use crate::net::tls;
use crate::net::tls::settings::{ClientAuth, Pair};
use crate::telemetry;

/// Where it listens, and how it injects.
#[derive(Debug, Clone, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true)]
#[command(mut_arg("drain_token", |arg| arg.hide(true)))]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where API servers ask, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where probes and Prometheus ask, without TLS; none for nowhere
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8014", value_parser = address)]
    ops: Address,
    /// The certificate's chain in PEM; followed as it changes, as the others are
    #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/tls/tls.crt")]
    tls_cert: PathBuf,
    /// Its key in PEM
    #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/tls/tls.key")]
    tls_key: PathBuf,
    /// Answers clients alone whose certificate one of these authorities (PEM) vouches for
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// What becomes of a pod that cannot have the sidecar
    #[arg(long, value_name = "WHAT", default_value = "deny")]
    on_refusal: Refused,
    /// After SIGTERM, how long reviews are answered as ever
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    delay: Duration,
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Makes a certificate of its own for the webhook, or a new one when it is due
    Cert(cert::Args),
}

#[derive(Debug, Clone, Copy)]
struct Address(Option<SocketAddr>);

fn address(text: &str) -> Result<Address, String> {
    if text == "none" {
        return Ok(Address(None));
    }
    text.parse()
        .map(|address| Address(Some(address)))
        .map_err(|_| "not an address; write 0.0.0.0:8014 or none".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Refused {
    /// It is not made
    Deny,
    /// It is made without
    Allow,
}

/// Serves until it is stopped.
pub fn main(args: &Args) -> ExitCode {
    if let Some(Command::Cert(args)) = &args.command {
        return cert::main(args);
    }
    if args.chosen.has_drain_token() {
        complain("--drain-token: not taken here, for each pod gets a token of its own, by chance; leave it out");
        return ExitCode::from(EXIT_USAGE);
    }
    let options = match args.chosen.options() {
        Ok(options) => options,
        Err(failure) => {
            complain(&failure.text);
            return ExitCode::from(failure.code);
        }
    };
    let log = match telemetry::logging::install(&telemetry::logging::Settings::default()) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("logging cannot be set up: {error}"));
            return ExitCode::from(EXIT_TRY_AGAIN);
        }
    };
    telemetry::logging::log_panics();
    let client_auth = if args.client_ca.is_some() { ClientAuth::Require } else { ClientAuth::None };
    let ended = webhook::serve(Settings {
        listen: args.listen,
        ops: args.ops.0,
        tls: tls::settings::Settings {
            certificates: vec![Pair { chain: args.tls_cert.clone(), key: args.tls_key.clone() }],
            client_ca: args.client_ca.clone(),
            client_auth,
        },
        options,
        on_refusal: match args.on_refusal {
            Refused::Deny => OnRefusal::Deny,
            Refused::Allow => OnRefusal::Allow,
        },
        delay: args.delay,
    });
    log.flush();
    match ended {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Cut | Outcome::Aborted) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<BindError>() { EXIT_UNAVAILABLE } else { EXIT_USAGE })
        }
    }
}
