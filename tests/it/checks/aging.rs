//! Flags whose source falls silent: they are served on, and the check tells that they grow old.

use std::time::Duration;

use crate::support::eventually;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

/// A source that works is heard of every 5 s, and one that does not may be given up on first.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn flags_of_a_frozen_redis_grow_old_and_young_again() {
    let redis = Redis::start();
    let settings = format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\nredis: {{ url: '{}' }}\n\
         flags: {{ scopes: [orders] }}\n\
         checks: {{ age: {{ flags: {{ max_age: 12s }}, interval: 100ms }} }}",
        redis.url().expose()
    );
    let sidecar = Sidecar::start_with(&settings);
    let definition = r#"{"state":"ENABLED","variants":{"yes":true},"defaultVariant":"yes"}"#;
    let (code, _, error) = sidecar.cli(&["flags", "set", "--create", "search", definition]);
    assert_eq!(code, 0, "{error}");
    sidecar.ready().await;
    let evaluated = async || {
        let answer = raw::post(sidecar.local, "/ofrep/v1/evaluate/flags/search", "{}").await.unwrap();
        answer.json()["value"] == true
    };
    eventually(PATIENCE, "the flag is there", evaluated).await;
    redis.freeze();
    eventually(PATIENCE, "what nobody confirms is too old", async || {
        let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
        let said = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        let names_it =
            said.starts_with("age: redis:orders has confirmed its flags ") && said.ends_with(" ago, more than 12s");
        answer.status == 503 && names_it
    })
    .await;
    assert!(evaluated().await, "old flags are served on");
    redis.thaw();
    eventually(PATIENCE, "confirmed again", async || raw::get(sidecar.ops, "/readyz").await.unwrap().status == 200)
        .await;
}
