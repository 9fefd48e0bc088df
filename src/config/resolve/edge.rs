//! `tls`, `proxy_protocol`: what comes before HTTP on a listener. The files of TLS are read and judged here too, so that
//! a check finds what a start would.

use super::super::machine::Machine;
use super::super::reader::Section;
use super::super::values::{Type, choice, path, wrong};
use crate::net::edge::{ProxyProtocol, Settings};
use crate::net::networks::Network;
use crate::net::tls::material::{self, Fault, Which};
use crate::net::tls::settings::{self, ClientAuth, Pair};

/// A proxy listener's edge.
pub(super) fn settings(section: &mut Section<'_>, machine: &Machine) -> Settings {
    let required = section.or(
        "proxy_protocol",
        &choice(&[("off", Expected::Off), ("required", Expected::Required)]),
        Expected::Off,
        "`required`: every connection begins with a PROXY header, version 1 or 2, whose address is then the client's. \
         Not guessed: without a load balancer in front that writes one, clients could.",
    );
    let trusted = section.or(
        "proxy_protocol_trusted",
        &network().list(),
        Vec::new(),
        "Networks of the load balancers that may connect then; without any, everybody may, and is believed.",
    );
    if !trusted.is_empty() && required == Expected::Off && section.sound(&["proxy_protocol"]) {
        section.problem(
            "proxy_protocol_trusted",
            None,
            "means nothing without PROXY headers",
            "set proxy_protocol: required, or remove it",
        );
    }
    let proxy_protocol = match required {
        Expected::Off => ProxyProtocol::Off,
        Expected::Required => ProxyProtocol::Required { trusted },
    };
    Settings { proxy_protocol, tls: tls(section, machine) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Off,
    Required,
}

fn network() -> Type<Network> {
    Type::text("network", "10.0.0.0/8", |text| {
        text.parse().or_else(|why: crate::net::networks::NotNetwork| {
            wrong(why.to_string(), "write ADDRESS/LENGTH, as 10.0.0.0/8 or 2001:db8::/32")
        })
    })
}

/// The listener's TLS, where there is a section for it.
pub(super) fn tls(section: &mut Section<'_>, machine: &Machine) -> Option<settings::Settings> {
    let doc = "TLS 1.2 and 1.3, with the files below; they are followed, and a change that does not fit together is not \
               taken.";
    section.section_if_there("tls", doc, |section| {
        let doc = "Certificates with their keys; clients get the one for the name they ask for (SNI), else the first.";
        let pairs = section.sections("certificates", doc, |section| pair(section, machine));
        if pairs.is_empty() && section.sound(&["certificates"]) {
            section.problem("certificates", None, "no element", "add one: - { chain: FILE, key: FILE }");
        }
        let client_ca = section.optional(
            "client_ca",
            &path("/etc/tidegate/clients/ca.crt"),
            "none",
            "Authorities that must have issued clients' certificates, in PEM.",
        );
        let default = if client_ca.is_some() { ClientAuth::Require } else { ClientAuth::None };
        let client_auth = section.or_computed(
            "client_auth",
            &choice(&[
                ("none", ClientAuth::None),
                ("request", ClientAuth::Request),
                ("require", ClientAuth::Require),
            ]),
            (default, "`require` with a `client_ca`, else `none`"),
            "Whether clients are asked for a certificate. `request` serves those without; what they show is verified in \
             both cases. The kubelet shows none.",
        );
        match &client_ca {
            Some(authorities) if section.sound(&["client_ca"]) => {
                let fault = machine.read.and_then(|read| material::judge_authorities(authorities, read));
                if let Some(fault) = fault {
                    told(section, "client_ca", fault);
                }
            }
            None if client_auth != ClientAuth::None && section.sound(&["client_ca", "client_auth"]) => section.problem(
                "client_auth",
                None,
                "nobody's certificates would be believed",
                "name the authorities' file in client_ca",
            ),
            _ => {}
        }
        settings::Settings { certificates: pairs.into_iter().flatten().collect(), client_ca, client_auth }
    })
}

fn pair(section: &mut Section<'_>, machine: &Machine) -> Option<Pair> {
    let chain = section.required(
        "chain",
        &path("/etc/tidegate/tls/tls.crt"),
        "The server's certificate, then those between it and its authority, in PEM.",
    );
    let key = section.required("key", &path("/etc/tidegate/tls/tls.key"), "Its private key, in PEM, not encrypted.");
    let pair = Pair { chain: chain?, key: key? };
    for fault in machine.read.map_or_else(Vec::new, |read| material::judge_pair(&pair, read, machine.now)) {
        let name = if matches!(fault.which, Which::Key(_)) { "key" } else { "chain" };
        told(section, name, fault);
    }
    Some(pair)
}

fn told(section: &mut Section<'_>, name: &'static str, fault: Fault) {
    section.problem(name, Some(fault.path.display().to_string()), fault.what, fault.remedy);
}
