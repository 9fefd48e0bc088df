//! TLS in front of the proxy and of ops: who is served, with which certificate, and who is not.

use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{start, tls, told};
use crate::support::app::App;
use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;
use crate::support::tls::{Tls, certificate, curl, s_client, shown};

#[tokio::test]
async fn clients_of_others_are_served_and_the_app_is_told_the_scheme() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let ca = authority.certificate();
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let arguments = [&["--cacert", &ca, "--header", "Forwarded: for=203.0.113.9"], version].concat();
        let (code, body) = curl(sidecar.proxy(), "/echo", &arguments).await;
        assert_eq!(code, 0, "{version:?}");
        let echo: serde_json::Value = serde_json::from_str(&body).unwrap();
        let fields = echo["headers"].to_string();
        assert!(fields.contains(r#"["x-forwarded-proto","https"]"#), "{fields}");
        assert!(fields.contains(r#"["forwarded","for=203.0.113.9, for=127.0.0.1;proto=https"]"#), "{fields}");
    }
    let (code, _) = curl(sidecar.proxy(), "/", &[]).await;
    assert_eq!(code, 60, "curl believes nobody it does not know");
    let (_, told) = s_client(sidecar.proxy(), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await;
    assert!(told.contains("alert protocol version") || told.contains("alert handshake failure"), "{told}");
    assert_eq!(sidecar.metric("tidegate_tls_handshakes_total", "\"full\"").await, 2.0);
    eventually(Duration::from_secs(10), "both failures are counted", async || {
        sidecar.metric("tidegate_tls_handshakes_total", "\"not_believed\"").await == 1.0
            && sidecar.metric("tidegate_tls_handshakes_total", "\"incompatible\"").await == 1.0
    })
    .await;
}

#[tokio::test]
async fn the_proxy_speaks_what_is_agreed_on() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let ca = authority.certificate();
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let arguments = ["--cacert", &ca, version, "--data", "hello", "--write-out", " %{http_version} %{http_code}"];
        let (code, said) = curl(sidecar.proxy(), "/echo", &arguments).await;
        assert!(code == 0 && said.ends_with(&format!(" {expected} 200")), "{said}");
        assert!(said.contains(r#"["x-forwarded-proto","https"]"#) && said.contains(r#""length":5"#), "{said}");
    }
    assert_eq!(sidecar.metric("tidegate_proxy_http2_streams_total", "").await, 1.0);
    let (_, told) = s_client(sidecar.proxy(), &["-alpn", "h2,http/1.1"]).await;
    assert!(told.contains("ALPN protocol: h2"), "{told}");
}

#[tokio::test]
async fn ops_speaks_what_is_agreed_on() {
    let (app, authority) = (App::start().await, Authority::new());
    let tls = tls(&authority.issue("server", 2), "");
    let sidecar = Sidecar::start(app.address, &format!("ops: {{ listen: ['127.0.0.1:0'], {tls} }}"));
    let ca = authority.certificate();
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let arguments =
            ["--cacert", &ca, version, "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"];
        eventually(Duration::from_secs(20), "ready", async || {
            curl(sidecar.ops, "/readyz", &arguments).await == (0, format!("{expected} 200"))
        })
        .await;
    }
    let (_, told) = s_client(sidecar.ops, &["-alpn", "spdy/1"]).await;
    assert!(told.contains("alert no application protocol"), "{told}");
    let (_, told) = s_client(sidecar.ops, &["-alpn", "h2,http/1.1"]).await;
    assert!(told.contains("ALPN protocol: h2"), "{told}");
    let silent = Tls::new(&authority, None, &[]);
    let answer = silent.client(sidecar.ops).await.unwrap().get("/healthz").await.unwrap();
    assert_eq!(answer.status, 200, "without ALPN the first bytes tell");
}

#[tokio::test]
async fn probes_over_tls_are_answered_alike_in_the_short_way_and_the_long_one() {
    let (app, authority) = (App::start().await, Authority::new());
    let tls = tls(&authority.issue("server", 2), "");
    let sidecar = Sidecar::start(app.address, &format!("ops: {{ listen: ['127.0.0.1:0'], {tls} }}"));
    for protocols in [&["http/1.1"][..], &[]] {
        let tls = Tls::new(&authority, None, protocols);
        let ready = async || tls.client(sidecar.ops).await.unwrap().get("/readyz").await.unwrap().status == 200;
        eventually(Duration::from_secs(20), "ready", ready).await;
        let version = tls.stream(sidecar.ops, "localhost").await.unwrap().get_ref().1.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
        for (path, content_type, body) in [
            ("/readyz", "application/json", "{\"status\":\"ready\",\"checks\":{}}"),
            ("/lb-healthz", "application/json", "{\"status\":\"ready\",\"checks\":{}}"),
            ("/healthz", "text/plain; charset=utf-8", "ok\n"),
            ("/startupz", "text/plain; charset=utf-8", "ok\n"),
        ] {
            let length = body.len();
            let expected = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncache-control: no-store\r\n\
                 x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let rest = "Host: localhost\r\nUser-Agent: kube-probe/1.33\r\nConnection: close\r\n\r\n";
            // A body bars the shorter way.
            for sent in [
                format!("GET {path} HTTP/1.1\r\n{rest}"),
                format!("GET {path} HTTP/1.1\r\nContent-Length: 1\r\n{rest}x"),
            ] {
                let mut client = tls.client(sidecar.ops).await.unwrap();
                client.send(&sent).await.unwrap();
                let answer = String::from_utf8(client.rest().await.unwrap()).unwrap();
                let told: String = answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect();
                assert_eq!(told, expected, "{sent}");
                assert_eq!(answer.len() - told.len(), "date: Mon, 23 Nov 2026 12:00:00 GMT\r\n".len(), "{answer}");
            }
        }
        // Both on one connection, which is kept.
        let mut client = tls.client(sidecar.ops).await.unwrap();
        for path in ["/readyz", "/healthz", "/readyz?verbose", "/readyz", "/metrics", "/healthz"] {
            let answer = client.get(path).await.unwrap();
            assert_eq!((answer.status, answer.closes()), (200, false), "{path}");
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_agreed_on_and_the_app_is_told_the_same() {
    let (app, authority) = (App::start().await, Authority::new());
    let (ca, server, ours) = (authority.certificate(), authority.issue("server", 2), authority.issue("client", 2));
    let more = format!("client_ca: '{ca}', client_auth: request");
    let sidecar = start(app.address, &tls(&server, &more), "");
    let common = ["--cacert", &ca, "--cert", &ours.certificate, "--key", &ours.key, "--write-out", "\n%{http_version}"];
    let mut seen = Vec::new();
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let forged = ["--header", "X-Forwarded-Client-Cert: Hash=00", "--header", "Forwarded: for=_a", version];
        let (code, told) = curl(sidecar.proxy(), "/echo", &[&common[..], &forged].concat()).await;
        let (echo, spoken) = told.rsplit_once('\n').unwrap();
        assert_eq!((code, spoken), (0, expected), "{told}");
        let echo: serde_json::Value = serde_json::from_str(echo).unwrap();
        let told =
            echo["headers"].as_array().unwrap().iter().filter(|field| field[0].as_str().unwrap().contains("forwarded"));
        seen.push(told.map(ToString::to_string).collect::<Vec<_>>());
        seen.last_mut().unwrap().sort();
    }
    assert_eq!(seen[0], seen[1], "whatever the version");
    let all = seen[0].join(" ");
    for part in ["\"https\"", "for=_a, for=127.0.0.1;proto=https", "Subject=\\\"CN=localhost\\\";DNS=localhost"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    assert!(!all.contains("Hash=00"), "{all}");
    let protocols = Tls::new(&authority, Some(&ours), &["h2", "http/1.1"]);
    let stream = protocols.stream(sidecar.proxy(), "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "the server's preference");
    let silent = Tls::new(&authority, None, &[]);
    let answer = silent.client(sidecar.proxy()).await.unwrap().get("/").await.unwrap();
    assert_eq!(answer.status, 200, "without ALPN the first bytes tell");
}

#[tokio::test]
async fn a_client_that_agreed_on_http2_and_speaks_something_else_is_cut() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let protocols = Tls::new(&authority, None, &["h2"]);
    let mut client = protocols.client(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let rest = client.rest().await.unwrap_or_default();
    assert!(!rest.starts_with(b"HTTP/1.1"), "{}", rest.escape_ascii());
    assert_eq!(app.accepted(), 0);
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name() {
    let (app, authority) = (App::start().await, Authority::new());
    let issued = [
        ("first", "DNS:localhost"),
        ("shop", "DNS:shop.example,DNS:www.shop.example"),
        ("wild", "DNS:*.shop.example,DNS:*.a.example"),
    ]
    .map(|(name, names)| authority.issue_for(name, "/CN=test", names, 2));
    let pairs = issued.each_ref().map(|one| format!("{{ chain: '{}', key: '{}' }}", one.certificate, one.key));
    let sidecar = start(app.address, &format!("tls: {{ certificates: [{}] }}", pairs.join(", ")), "");
    let client = Tls::new(&authority, None, &[]);
    for (name, expected) in [
        ("localhost", 0),
        ("shop.example", 1),
        ("SHOP.example", 1),
        ("www.shop.example", 1),
        ("api.shop.example", 2),
        ("b.a.example", 2),
    ] {
        let stream = client.stream(sidecar.proxy(), name).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(shown(&stream), certificate(&issued[expected].certificate), "for {name}");
    }
    for name in ["a.example", "c.b.a.example", "elsewhere.example"] {
        let (_, told) = s_client(sidecar.proxy(), &["-servername", name, "-showcerts"]).await;
        let first = std::fs::read_to_string(&issued[0].certificate).unwrap();
        assert!(told.contains(first.trim()), "who names nobody we know gets the first: {name}");
    }
    let (_, told) = s_client(sidecar.proxy(), &["-noservername"]).await;
    assert!(told.contains("BEGIN CERTIFICATE"), "a client without SNI is served too: {told}");
}

#[tokio::test]
async fn sessions_are_resumed() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "workers: 2");
    let client = Tls::new(&authority, None, &["http/1.1"]);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let stream = client.stream(sidecar.proxy(), "localhost").await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        // Tickets come behind the handshake.
        let mut client = Client::over(stream);
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    assert_eq!(sidecar.metric("tidegate_tls_handshakes_total", "\"resumed\"").await, 2.0);
    let session = sidecar.directory().join("session");
    let session = session.to_str().unwrap();
    s_client(sidecar.proxy(), &["-tls1_2", "-sess_out", session]).await;
    let (_, told) = s_client(sidecar.proxy(), &["-tls1_2", "-sess_in", session]).await;
    assert!(told.contains("\nReused,"), "{told}");
}

#[tokio::test]
async fn who_speaks_http_to_a_tls_port_is_told_so() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (400, "tidegate: this port speaks TLS; ask by https://\n"));
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 400);
    assert_eq!(client.rest().await.unwrap(), b"");
    drop(client);
    eventually(Duration::from_secs(10), "counted", async || {
        sidecar.metric("tidegate_tls_handshakes_total", "\"plain_http\"").await == 2.0
    })
    .await;
    assert_eq!(app.accepted(), 0, "nothing of it reaches the app");
}

#[tokio::test]
async fn garbage_ends_its_connection_alone() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    for garbage in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\0\0\0\0\0\0\0\0",
        &[0x16; 4096],
        &[0xff; 70_000],
    ] {
        let mut stream = TcpStream::connect(sidecar.proxy()).await.unwrap();
        // The sidecar may close before all of it is written.
        let _ = stream.write_all(garbage).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() <= 7 && rest.first().is_none_or(|kind| *kind == 21), "an alert at most: {rest:?}");
    }
    let failed = sidecar.metric("tidegate_tls_handshakes_total", "\"malformed\"").await;
    assert!(failed >= 4.0, "{failed}");
    let client = Tls::new(&authority, None, &[]);
    assert_eq!(client.client(sidecar.proxy()).await.unwrap().get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut_and_one_that_is_left_holds_nothing() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "limits: { header_timeout: 500ms }");
    let mut silent = TcpStream::connect(sidecar.proxy()).await.unwrap();
    let mut trickling = TcpStream::connect(sidecar.proxy()).await.unwrap();
    let trickle = async {
        // A record that is announced as 16 KiB of handshake, a byte at a time.
        for byte in [0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x00, 0x3f, 0xfc].into_iter().chain([0; 1_000]) {
            if trickling.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("a byte at a time was accepted for 50 s");
    };
    let mut rest = Vec::new();
    let (cut, ()) = tokio::join!(silent.read_to_end(&mut rest), trickle);
    assert!(cut.is_ok() && rest.is_empty(), "{rest:?}");
    assert_eq!(sidecar.metric("tidegate_tls_handshakes_total", "\"timeout\"").await, 2.0);
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut leaving = TcpStream::connect(sidecar.proxy()).await.unwrap();
        leaving.write_all(bytes).await.unwrap();
    }
    eventually(Duration::from_secs(10), "nothing is held", async || {
        sidecar.metric("tidegate_tls_handshakes_total", "\"closed\"").await == 2.0
            && sidecar.metric("tidegate_in_flight", "connection").await == 0.0
    })
    .await;
    let mut client = Tls::new(&authority, None, &[]).client(sidecar.proxy()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(client.get("/").await.unwrap().status, 200, "a finished handshake is not a stalled head");
}

#[tokio::test]
async fn everything_that_passes_over_tcp_passes_over_tls() {
    let (app, authority) = (App::start().await, Authority::new());
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let mut client = Tls::new(&authority, None, &[]).client(sidecar.proxy()).await.unwrap();
    let answer = client.get("/size?n=3000000").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 3_000_000));
    let body = "x".repeat(1_000_000);
    let answer = client.post("/echo", &body).await.unwrap();
    assert_eq!(answer.json()["length"], 1_000_000);
    assert_eq!(told(&answer, "x-forwarded-for"), ["127.0.0.1"]);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /slow?ms=10 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "hello\n");
    assert_eq!(client.answer().await.unwrap().text(), "slow\n");
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 101);
    client.send("through the tunnel").await.unwrap();
    assert_eq!(client.take(18).await.unwrap(), b"through the tunnel");
    client.finish().await.unwrap();
    assert_eq!(client.rest().await.unwrap(), b"");
}

#[tokio::test]
async fn what_was_taken_is_sent_while_the_app_has_nothing_more_to_say() {
    const PART: usize = 900_000;
    // A part larger than the kernel's buffers, of an answer that then waits: an event stream.
    let app = App::serve(|mut stream| async move {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{PART:x}\r\n");
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; PART], b"\r\n"].concat()).await;
        std::future::pending::<()>().await;
    })
    .await;
    let authority = Authority::new();
    let sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(sidecar.proxy()).await.unwrap();
    let mut client = Client::over(Tls::new(&authority, None, &[]).over(stream, "localhost").await.unwrap());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Not read before the sidecar has written as much as the kernel takes.
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.head().await.unwrap();
    let mut got = 0;
    while got < PART {
        got += client.chunk().await.unwrap().len();
    }
    assert_eq!(got, PART);
}

#[tokio::test]
async fn a_drain_ends_tls_connections_without_a_failed_request() {
    let (app, authority) = (App::start().await, Authority::new());
    let mut sidecar = start(app.address, &tls(&authority.issue("server", 2), ""), "");
    let tls = Tls::new(&authority, None, &[]);
    let (mut idle, mut busy) = (tls.client(sidecar.proxy()).await.unwrap(), tls.client(sidecar.proxy()).await.unwrap());
    let _shaking = TcpStream::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(idle.get("/").await.unwrap().status, 200);
    busy.send("GET /slow?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sidecar.signal("TERM");
    let answer = busy.answer().await.unwrap();
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(idle.rest().await.unwrap(), b"", "closed in the end, with TLS's own goodbye");
    assert!(sidecar.ended(Duration::from_secs(20)).await.success());
}
