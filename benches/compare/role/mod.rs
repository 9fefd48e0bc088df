//! The processes that this binary starts of itself: the app, the bare baselines and the load.

mod broadcast;
mod calls;
mod crowd;
mod echo;
mod frames;
mod grpc;
mod hello;
mod load;
mod messages;
mod origin;
mod parse;
mod proxy;
mod relay;
mod serve;
mod subscribers;
mod tuning;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

pub(crate) use crowd::CrowdReport;
pub(crate) use load::LoadReport;
pub(crate) use tuning::sets as tuning_sets;

/// What one child process of the harness is to be: `compare --role <ROLE> …`.
#[derive(Parser)]
enum Role {
    /// The app behind every proxy: 1 KB for each request.
    Origin(serve::ServeArgs),
    /// The least that an HTTP service on hyper can do: answer a constant.
    Hello(serve::ServeArgs),
    /// As `hello`, but the request body is read and parsed as JSON first.
    Parse(parse::ParseArgs),
    /// The least that an HTTP proxy on hyper can do: the floor.
    Proxy(proxy::ProxyArgs),
    /// Bytes passed on unread: the floor of that floor.
    Relay(relay::RelayArgs),
    /// An event stream on hyper of what Redis publishes.
    Broadcast(broadcast::BroadcastArgs),
    /// A service on tonic that decodes its request and answers a constant.
    Grpc(grpc::GrpcArgs),
    /// The least that a gRPC service on hyper can do: answer a constant.
    Frames(frames::FramesArgs),
    /// The app behind tunnels: WebSocket messages come back as they went.
    Echo(serve::ServeArgs),
    /// Connections that subscribe to events in Redis.
    Subscribers(subscribers::SubscribersArgs),
    /// A closed loop of keep-alive connections; reports as JSON on stdout.
    Load(load::LoadArgs),
    /// A closed loop of gRPC calls; reports as JSON on stdout.
    Calls(calls::CallsArgs),
    /// A closed loop of WebSocket messages; reports as JSON on stdout.
    Messages(messages::MessagesArgs),
    /// Connections at rest that leave when they are asked to; reports as JSON on stdout.
    Crowd(crowd::CrowdArgs),
}

/// Runs as the role named by `args`, whose first item stands for the program's name.
pub(crate) fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let role = Role::parse_from(args);
    if !matches!(role, Role::Load(_) | Role::Calls(_) | Role::Messages(_) | Role::Crowd(_)) {
        exit_with_parent();
    }
    let end = match role {
        Role::Origin(args) => origin::run(&args),
        Role::Hello(args) => hello::run(&args),
        Role::Parse(args) => parse::run(&args),
        Role::Proxy(args) => proxy::run(&args),
        Role::Relay(args) => relay::run(&args),
        Role::Broadcast(args) => broadcast::run(&args),
        Role::Grpc(args) => grpc::run(&args),
        Role::Frames(args) => frames::run(&args),
        Role::Subscribers(args) => subscribers::run(&args),
        Role::Load(args) => load::run(&args),
        Role::Calls(args) => calls::run(&args),
        Role::Messages(args) => messages::run(&args),
        Role::Crowd(args) => crowd::run(&args),
        Role::Echo(args) => echo::run(&args),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A harness that was killed cannot kill its children: they end when their standard input does.
fn exit_with_parent() {
    std::thread::spawn(|| {
        let mut nothing = String::new();
        while matches!(std::io::stdin().read_line(&mut nothing), Ok(read) if read > 0) {
            nothing.clear();
        }
        std::process::exit(0);
    });
}
