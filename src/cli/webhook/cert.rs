//! `tidegate webhook cert`: a certificate of the webhook's own, on standard output, in files, or in a cluster.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;

use crate::cli::flags::Failure;
use crate::cli::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, block_on, complain, say};
use crate::kube::webhook::cert::apply::{self, Target};
use crate::kube::webhook::cert::cluster::{self, Cluster};
use crate::kube::webhook::cert::{self, Held, Judgement};
use crate::secret::Secret;

/// Where service accounts have their files.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A certificate for whom, and where to.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// The webhook's Service
    #[arg(long, default_value = "tidegate-webhook", value_parser = label)]
    service: String,
    /// Its namespace, and the Secret's [default: that of the pod]
    #[arg(long, value_parser = label)]
    namespace: Option<String>,
    /// The Secret that the webhook's pods mount
    #[arg(long, default_value = "tidegate-webhook-tls")]
    secret: String,
    /// How long the certificate is valid; a new one is made when a third of that is left
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Keeps tls.crt, tls.key and ca.crt in this directory instead of printing a Secret
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "apply")]
    out_dir: Option<PathBuf>,
    /// Keeps the Secret in the cluster, and the caBundle of the configuration, by a service account's rights
    #[arg(long)]
    apply: bool,
    /// The MutatingWebhookConfiguration
    #[arg(long, value_name = "NAME", default_value = "tidegate")]
    configuration: String,
    /// The API server's host
    #[arg(long, value_name = "HOST", env = "KUBERNETES_SERVICE_HOST")]
    api_host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT", env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    api_port: u16,
    /// The directory of the service account: token, ca.crt and namespace
    #[arg(long, value_name = "DIRECTORY", default_value = ACCOUNT)]
    account: PathBuf,
}

/// The name of a Service or a namespace (RFC 1123 section 2.1): no other is one part of a certificate's name.
fn label(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("not a DNS label; write 1 to 63 of a-z, 0-9 and -, the first and the last no -".to_owned())
}

/// Makes one if it is due.
pub(super) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.lifetime < Duration::from_secs(3600) || args.lifetime > Duration::from_secs(10 * 366 * 86_400) {
        return Err(Failure::usage(
            "--lifetime: not between 1h and 10y; API servers must have time to learn of a new one",
        ));
    }
    let namespace = namespace(args)?;
    let names = cert::names(&args.service, &namespace);
    let now = SystemTime::now();
    let made = |earlier: &str| {
        cert::issue(&names, now, args.lifetime, earlier)
            .map_err(|e| Failure::usage(format!("--service: {}: {e}; write a DNS name", args.service)))
    };
    if args.apply {
        let Some(host) = args.api_host.clone() else {
            return Err(Failure::usage("no API server: --apply runs in a pod, or takes --api-host and --account"));
        };
        let account = |file: &str| args.account.join(file);
        let cluster = Cluster { host, port: args.api_port, token: account("token"), authority: account("ca.crt") };
        let target = Target {
            names,
            namespace,
            secret: args.secret.clone(),
            configuration: args.configuration.clone(),
            life: args.lifetime,
        };
        let done = block_on(apply::apply(&cluster, &target, now));
        let done = done.map_err(|_| Failure::try_again("no event loop"))?.map_err(|e| told(&e))?;
        let until = humantime::format_rfc3339_seconds(done.until);
        match done.renewed {
            Some(why) => say(&format!("a new certificate, valid until {until}: {why}")),
            None if done.bundled => say(&format!("the certificate is good until {until}; the caBundle was set")),
            None => say(&format!("the certificate is good until {until}")),
        }
        return Ok(());
    }
    let Some(directory) = &args.out_dir else {
        let held = made("")?;
        let secret = serde_json::to_value(apply::secret(&args.secret, &namespace, &held)).unwrap_or_default();
        let text = serde_saphyr::to_string(&secret).map_err(|e| Failure::failed(e.to_string()))?;
        say(&format!("# The caBundle of the MutatingWebhookConfiguration is the value of ca.crt.\n{text}"));
        return Ok(());
    };
    let before = read(directory);
    match before.as_ref().map(|held| cert::judge(held, &names, now)) {
        Some(Judgement::Good(until)) => {
            say(&format!("the certificate is good until {}", humantime::format_rfc3339_seconds(until)));
        }
        _ => {
            write(directory, &made(before.as_ref().map(|held| held.authorities.as_str()).unwrap_or_default())?)?;
            say(&format!("a new certificate, valid until {}", humantime::format_rfc3339_seconds(now + args.lifetime)));
        }
    }
    Ok(())
}

fn told(failure: &cluster::Failure) -> Failure {
    let code = match failure {
        cluster::Failure::Unavailable(..) => EXIT_UNAVAILABLE,
        cluster::Failure::Conflict(_) => EXIT_TRY_AGAIN,
        cluster::Failure::Refused { .. } => EXIT_FAILED,
        cluster::Failure::Local(_) => crate::cli::EXIT_USAGE,
    };
    Failure::new(code, failure.to_string())
}

fn namespace(args: &Args) -> Result<String, Failure> {
    if let Some(namespace) = &args.namespace {
        return Ok(namespace.clone());
    }
    let path = args.account.join("namespace");
    let Ok(text) = fs::read_to_string(&path) else {
        return Err(Failure::usage("--namespace: none is given, and no service account has one; name the webhook's"));
    };
    label(text.trim()).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

/// What a directory holds already.
fn read(directory: &Path) -> Option<Held> {
    let text = |name: &str| fs::read_to_string(directory.join(name)).ok();
    Some(Held { chain: text("tls.crt")?, key: Secret::new(text("tls.key")?), authorities: text("ca.crt")? })
}

/// Whom to believe first, then what is to be believed.
fn write(directory: &Path, held: &Held) -> Result<(), Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    fs::create_dir_all(directory).map_err(|e| failed(directory, e))?;
    for (name, text, mode) in [
        ("ca.crt", held.authorities.as_str(), 0o644),
        ("tls.key", held.key.expose(), 0o600),
        ("tls.crt", &held.chain, 0o644),
    ] {
        let path = directory.join(name);
        let temporary = directory.join(format!(".{name}.{:08x}.tmp", fastrand::u32(..)));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&temporary, &path)).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}
