//! HTTP/2 with prior knowledge on the local and ops listeners, beside HTTP/1.1.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .version(Version::HTTP_2)
        .body(Full::from(body.to_owned()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn one_connection_carries_many_requests_at_once() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let sender = connect(sidecar.local).await;
    let asked = (0..200).map(|at| {
        let mut sender = sender.clone();
        let path = format!("/ofrep/v1/evaluate/flags/none-{at}");
        async move { (at, ask(&mut sender, sidecar.local, &path, "{}").await) }
    });
    for (at, (status, body)) in join_all(asked).await {
        assert_eq!(status, 404, "{body}");
        assert!(body.contains(&format!("none-{at}")), "each answer is of its own request: {body}");
    }
    let mut sender = connect(sidecar.ops).await;
    let (status, body) = ask(&mut sender, sidecar.ops, "/readyz", "").await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn what_only_looks_like_a_preface_is_refused_as_http1() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.local).await.unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(client.rest().await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    let answer = raw::get(sidecar.local, "/v1/status").await.unwrap();
    assert_eq!(answer.status, 200, "others are served on");
}
