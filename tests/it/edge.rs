//! What stands before HTTP on a listener: TLS, clients' certificates, certificates that change, and PROXY headers.

mod client_certificates;
mod proxy_header;
mod reload;
mod tls;

use std::net::SocketAddr;

use crate::support::authority::Issued;
use crate::support::raw::Answer;
use crate::support::sidecar::Sidecar;

/// `tls` of a listener with one certificate, and more keys.
fn tls(issued: &Issued, more: &str) -> String {
    format!("tls: {{ certificates: [{{ chain: '{}', key: '{}' }}], {more} }}", issued.certificate, issued.key)
}

/// A sidecar whose one listener has these keys beside its address and app.
fn start(app: SocketAddr, listener: &str, more: &str) -> Sidecar {
    Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{app}', {listener} }}]\n\
         drain: {{ delay: 200ms, quiet: 200ms, deadline: 10s }}\n{more}"
    ))
}

/// The value of a field that `/echo` was asked with, all its lines.
fn told(answer: &Answer, name: &str) -> Vec<String> {
    let echo = answer.json();
    let fields = echo["headers"].as_array().unwrap().iter();
    fields.filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap().to_owned()).collect()
}
