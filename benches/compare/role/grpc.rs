//! A gRPC service as tonic's users build it, with one method that decodes its request and answers a constant: the bar for
//! flag resolution.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::serve::{self, ServeArgs};
use crate::messages::{self, Question, Resolution};

/// What `grpc` is told.
#[derive(clap::Args, Clone)]
pub(super) struct GrpcArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The length of the answer's message.
    #[arg(long)]
    answer_bytes: usize,
}

pub(super) fn run(args: &GrpcArgs) -> anyhow::Result<()> {
    let service = Resolve(Arc::new(messages::resolution(args.answer_bytes)));
    let address = args.serve.listen;
    serve::on_threads(args.serve.threads, serve::EVENT_INTERVAL, move || {
        let service = service.clone();
        async move { Ok(Server::builder().add_service(service).serve(address).await?) }
    })
}

#[derive(Clone)]
struct Resolve(Arc<Resolution>);

impl NamedService for Resolve {
    const NAME: &'static str = "flagd.evaluation.v2.Service";
}

impl Service<http::Request<Body>> for Resolve {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = self.clone();
        Box::pin(async move {
            if request.uri().path() != messages::V2 {
                return Ok(Status::unimplemented("").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(method, request).await)
        })
    }
}

impl UnaryService<Question> for Resolve {
    type Response = Resolution;
    type Future = Ready<Result<Response<Resolution>, Status>>;

    fn call(&mut self, request: Request<Question>) -> Self::Future {
        let known = !request.into_inner().flag_key.is_empty();
        ready(if known { Ok(Response::new((*self.0).clone())) } else { Err(Status::not_found("no key")) })
    }
}
