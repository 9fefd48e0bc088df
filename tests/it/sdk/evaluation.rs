//! What evaluations give an app: values of each type, variants, reasons, errors and metadata.

use serde_json::json;

use super::{NODE_OFREP, PYTHON_OFREP, Provider, shared, with_the_tables_flags};

async fn evaluates_as_the_table_says(provider: Provider) {
    let sidecar = with_the_tables_flags().await;
    let script = provider.start("evaluation", sidecar.local, json!({"cases": shared("cases.json")}));
    let cases = script.passes().await;
    assert!(cases.as_u64().is_some_and(|cases| cases > 30), "{cases:?} cases");
}

#[tokio::test]
async fn python_evaluates_over_ofrep() {
    evaluates_as_the_table_says(PYTHON_OFREP).await;
}

#[tokio::test]
async fn node_evaluates_over_ofrep() {
    evaluates_as_the_table_says(NODE_OFREP).await;
}

#[tokio::test]
async fn a_user_gets_the_same_variant_whoever_asks() {
    let sidecar = with_the_tables_flags().await;
    let asked = json!({"flags": ["rollout", "rollout-by-email"], "users": 200});
    let scripts = [PYTHON_OFREP, NODE_OFREP].map(|provider| provider.start("buckets", sidecar.local, asked.clone()));
    let mut answers = Vec::new();
    for script in scripts {
        answers.push(script.passes().await);
    }
    let first = answers[0].as_object().unwrap();
    assert_eq!(first.len(), 400);
    for variant in ["a", "b", "c"] {
        assert!(first.values().any(|given| given == variant), "nobody gets {variant}: {first:?}");
    }
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}
