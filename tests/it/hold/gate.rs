//! The gate that an app's own state closes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{LONG, get, head, held, holds, status};
use crate::support::app::App;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::port::Port;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

#[tokio::test]
async fn any_request_waits_for_an_app_that_refuses_and_nothing_of_it_was_sent_before() {
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "");
    let mut first = held(&sidecar, &get("/echo?first"), 1).await;
    let post = "POST /echo?second HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello";
    let mut second = held(&sidecar, post, 2).await;
    let head = "POST /echo?large HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n";
    let mut large = held(&sidecar, &format!("{head}{}", "x".repeat(100_000)), 3).await;
    let told = status(&sidecar).await;
    assert_eq!((&told["hold"]["state"], &told["hold"]["held"]), (&"closed".into(), &3.into()), "{told}");
    assert_eq!(told["hold"]["reasons"][0]["reason"], "app_refuses", "{told}");
    assert_eq!((&told["in_flight"]["requests"], &told["in_flight"]["waiting"]), (&0.into(), &3.into()), "{told}");
    let (_, table, _) = sidecar.cli(&["status"]);
    assert!(table.contains("gate       closed: app_refuses for ") && table.contains("3 requests wait"), "{table}");

    let _app = App::on(port.address()).await;
    assert_eq!(first.answer().await.unwrap().json()["target"], "/echo?first");
    // What was read of a body meanwhile is sent with the rest of it.
    large.send(vec![b'x'; 100_000]).await.unwrap();
    assert_eq!(large.answer().await.unwrap().json()["length"], 200_000);
    let second = second.answer().await.unwrap().json();
    assert_eq!((&second["method"], &second["length"]), (&"POST".into(), &5.into()));
    assert_eq!(status(&sidecar).await["hold"]["state"], "open");
    assert_eq!(sidecar.metric("tidegate_hold_ended_total", "end=\"passed\"").await, 3.0);
    assert_eq!(sidecar.metric("tidegate_hold_closed", "").await, 0.0);
    assert_eq!(sidecar.metric("tidegate_proxy_failures_total", "").await, 0.0);
}

#[tokio::test]
async fn an_app_behind_a_unix_socket_is_waited_for_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let sidecar =
        Sidecar::start_with(&format!("proxy: [{{ listen: '127.0.0.1:0', upstream: 'unix:{}' }}]", path.display()));
    let mut client = held(&sidecar, &get("/"), 1).await;
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answered = tokio::spawn(async move {
        // The first ones may be looks at whether it accepts.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !head(&mut stream).await.is_empty() {
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback").await.unwrap();
            }
        }
    });
    assert_eq!(client.answer().await.unwrap().text(), "back");
    answered.await.unwrap();
}

#[tokio::test]
async fn those_who_waited_reach_the_app_in_the_order_of_their_arrival() {
    let port = Port::reserve();
    // The line is one for all workers.
    let sidecar = Sidecar::start(port.address(), "workers: 2");
    let mut clients = Vec::new();
    for index in 1..=40 {
        clients.push(held(&sidecar, &get(&format!("/{index}")), index).await);
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind(port.address()).await.unwrap();
    let seen = order.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // One after another, so that the order is the order of arrival here; those that ask nothing only look.
            let head = head(&mut stream).await;
            let Some(target) = head.split(' ').nth(1) else { continue };
            seen.lock().unwrap().push(target.to_owned());
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    for client in &mut clients {
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    server.abort();
    let order = order.lock().unwrap().clone();
    // They are called in their order; whose connection the app sees first of those called together, nobody can say. By
    // chance they would be displaced by a third of their number on average.
    let places: Vec<usize> = order.iter().map(|target| target[1..].parse().unwrap()).collect();
    let displaced: usize = places.iter().enumerate().map(|(place, number)| number.abs_diff(place + 1)).sum();
    assert!(displaced < 40 * 40 / 6, "{places:?}");
    assert_eq!(places.len(), 40);
}

#[tokio::test]
async fn beyond_the_bound_and_after_the_wait_it_is_503_and_told_when_to_come_again() {
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "hold: { max_requests: 2, max_wait: 2s }");
    let mut first = held(&sidecar, &get("/"), 1).await;
    let _second = held(&sidecar, &get("/"), 2).await;
    let mut third = Client::connect(sidecar.proxy()).await.unwrap();
    let refused = third.get("/").await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("proxy-status"), Some("tidegate; error=connection_limit_reached"));
    let late = first.answer().await.unwrap();
    assert_eq!((late.status, late.header("retry-after"), late.closes()), (503, Some("1"), false));
    assert_eq!(late.header("proxy-status"), Some("tidegate; error=destination_unavailable"));
    assert_eq!(late.text(), "tidegate: the app was away for too long\n");
    // From now on nobody begins to wait.
    let away = third.get("/").await.unwrap();
    assert_eq!((away.status, away.text().as_str()), (503, "tidegate: the app is away\n"));
    for (end, count) in [("overflow", 1.0), ("timeout", 2.0), ("away", 1.0)] {
        let label = format!("end=\"{end}\"");
        eventually(LONG, end, async || sidecar.metric("tidegate_hold_ended_total", &label).await == count).await;
    }
    let _app = App::on(port.address()).await;
    eventually(LONG, "served again", async || third.get("/").await.unwrap().status == 200).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_at_once() {
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "hold: { max_requests: 1, max_wait: 60s }");
    // Without a body, with a whole one, with a part of one, and with one that waits to be asked for.
    let post = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n";
    let whole = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi".to_owned();
    let requests = [get("/"), whole, format!("{post}\r\nhi"), format!("{post}Expect: 100-continue\r\n\r\n")];
    let count = requests.len() as f64;
    for request in requests {
        let client = held(&sidecar, &request, 1).await;
        drop(client);
        holds(&sidecar, 0).await;
    }
    assert_eq!(sidecar.metric("tidegate_hold_ended_total", "end=\"left\"").await, count);
    assert_eq!(sidecar.metric("tidegate_in_flight", "").await, 0.0);
    let mut next = held(&sidecar, &get("/"), 1).await;
    let _app = App::on(port.address()).await;
    assert_eq!(next.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_stops_without_a_word_and_comes_back_fails_only_what_it_had_taken() {
    let port = Port::reserve();
    let app = App::on(port.address()).await;
    let sidecar = Sidecar::start(port.address(), "");
    sidecar.ready().await;
    let load = Load::on(sidecar.proxy(), 8, 4);
    eventually(LONG, "load flows", async || load.answered() > 200).await;
    drop(app);
    holds(&sidecar, 12).await;
    let before = load.answered();
    let _app = App::on(port.address()).await;
    eventually(LONG, "load flows again", async || load.answered() > before + 200).await;
    let (_, _, failed) = load.stop().await;
    // What was under way when it stopped, at most one for each client: nobody may send that again.
    assert!(failed.len() <= 12, "{failed:#?}");
    assert!(failed.iter().all(|failure| failure.contains("502") || failure.contains("broken")), "{failed:#?}");
}

#[tokio::test]
async fn a_check_that_fails_holds_and_one_that_passes_lets_through() {
    let app = App::start().await;
    let judge = Port::reserve();
    let judged = App::on(judge.address()).await;
    let settings = format!(
        "checks: {{ warm: {{ tcp: {{ address: '{}' }}, class: info, interval: 100ms, fall: 1 }} }}\nhold: {{ check: warm }}",
        judge.address()
    );
    let sidecar = Sidecar::start(app.address, &settings);
    sidecar.ready().await;
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
    drop(judged);
    eventually(LONG, "closed", async || sidecar.metric("tidegate_hold_closed", "reason=\"check\"").await == 1.0).await;
    let mut client = held(&sidecar, &get("/"), 1).await;
    let _judged = App::on(judge.address()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_held_request_is_not_the_apps_slowness() {
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "limits: { response_timeout: 500ms }");
    let mut client = held(&sidecar, &get("/"), 1).await;
    // Twice what the sweeper needs to find a request late.
    tokio::time::sleep(Duration::from_secs(2)).await;
    holds(&sidecar, 1).await;
    let _app = App::on(port.address()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_upgrade_waits_as_well() {
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "");
    let request = "GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut tunnel = held(&sidecar, request, 1).await;
    let _app = App::on(port.address()).await;
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    tunnel.send("through").await.unwrap();
    assert_eq!(tunnel.take(7).await.unwrap(), b"through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_listener_tells_of_its_own_app() {
    let (app, port) = (App::start().await, Port::reserve());
    let sidecar = Sidecar::start_with(&format!(
        "proxy:\n- {{ listen: '127.0.0.1:0', upstream: 'http://{}' }}\n- {{ listen: '127.0.0.1:0', upstream: 'http://{}' }}",
        port.address(),
        app.address
    ));
    let _waits = held(&sidecar, &get("/"), 1).await;
    let [away, here] = sidecar.proxy[..] else { panic!("two listeners") };
    for (name, more, expected) in [
        ("tidegate_hold_closed", ",reason=\"app_refuses\"", [1.0, 0.0]),
        ("tidegate_hold_requests", "", [1.0, 0.0]),
        ("tidegate_hold_ended_total", ",end=\"passed\"", [0.0, 0.0]),
        ("tidegate_hold_wait_seconds_count", "", [0.0, 0.0]),
    ] {
        for (listener, expected) in [away, here].into_iter().zip(expected) {
            let labels = format!("{{listener=\"{listener}\"{more}}}");
            assert_eq!(sidecar.metric(name, &labels).await, expected, "{name}{labels}");
        }
    }
    let told = status(&sidecar).await;
    let route = |at: usize| {
        let route = &told["hold"]["routes"][at];
        (&route["listener"], &route["app"], &route["state"], &route["held"], &route["reasons"][0]["reason"])
    };
    let name = |address: std::net::SocketAddr| serde_json::Value::from(address.to_string());
    let url = |address: std::net::SocketAddr| serde_json::Value::from(format!("http://{address}"));
    let closed = ("closed".into(), 1.into(), "app_refuses".into());
    assert_eq!(route(0), (&name(away), &url(port.address()), &closed.0, &closed.1, &closed.2), "{told}");
    let open = ("open".into(), 0.into(), serde_json::Value::Null);
    assert_eq!(route(1), (&name(here), &url(app.address), &open.0, &open.1, &open.2), "{told}");
    let (_, table, _) = sidecar.cli(&["status"]);
    let closed = format!("gate       {away} → http://{}: closed: app_refuses for ", port.address());
    assert!(table.contains(&closed) && table.contains("; 1 request waits, the first for "), "{table}");
    assert!(table.contains(&format!("gate       {here} → http://{}: open\n", app.address)), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_comes_and_goes_does_not_fill_the_log() {
    const TIMES: u64 = 8;
    let port = Port::reserve();
    let sidecar = Sidecar::start(port.address(), "");
    for _ in 0..TIMES {
        eventually(LONG, "the app is gone", async || tokio::net::TcpStream::connect(port.address()).await.is_err())
            .await;
        let mut waits = held(&sidecar, &get("/"), 1).await;
        let _app = App::on(port.address()).await;
        assert_eq!(waits.answer().await.unwrap().status, 200);
    }
    let lines = |message: &str| -> Vec<serde_json::Value> {
        let begins = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with(message));
        sidecar.log().iter().filter(begins).cloned().collect()
    };
    let left_out = || lines("the app comes and goes").iter().map(|line| line["times"].as_u64().unwrap()).sum::<u64>();
    let told = || lines("requests are held").len() as u64;
    eventually(LONG, "each is told or counted", async || told() + left_out() == TIMES).await;
    assert!(told() < TIMES, "{:?}", sidecar.log());
    assert!(lines("requests are no longer held").len() as u64 <= told());
}
