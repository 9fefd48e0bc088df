//! The providers for browsers, in a browser.

use serde_json::json;

use super::with_the_tables_flags;
use crate::support::browser::Page;

async fn evaluates_as_the_table_says(provider: &str) {
    let sidecar = with_the_tables_flags("").await;
    let settings = json!({"provider": provider, "address": sidecar.local.to_string()});
    Page::open("evaluation", &settings).await.passes().await;
}

#[tokio::test]
async fn a_page_evaluates_over_ofrep() {
    evaluates_as_the_table_says("ofrep").await;
}

#[tokio::test]
async fn a_page_evaluates_over_connect() {
    evaluates_as_the_table_says("rpc").await;
}
