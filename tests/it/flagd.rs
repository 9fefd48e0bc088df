//! The flagd protocols of the running sidecar, asked by clients that others wrote and by bytes.

mod evaluation;
mod events;
mod protocol;
mod server;
mod sync;

use serde_json::{Value, json};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::rpc::Rpc;
use crate::support::sidecar::Sidecar;

const FLAGS: &str = r#"{"metadata":{"flagSetId":"shop","team":"a"},
  "$evaluators":{"staff":{"ends_with":[{"var":"email"},"@example.com"]}},
  "flags":{
  "on":{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes","metadata":{"team":"b","n":1.5,"x":true}},
  "no":{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"},
  "text":{"state":"ENABLED","variants":{"a":"ä \"quoted\" \n"},"defaultVariant":"a"},
  "count":{"state":"ENABLED","variants":{"big":9007199254740993,"less":-5},"defaultVariant":"big"},
  "ratio":{"state":"ENABLED","variants":{"half":2.5,"one":1.0},"defaultVariant":"half"},
  "object":{"state":"ENABLED","variants":{"o":{"a":[1,null,{"b":"c"}],"d":{}}},"defaultVariant":"o"},
  "off":{"state":"DISABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes"},
  "code":{"state":"ENABLED","variants":{"yes":true}},
  "fallen":{"state":"ENABLED","variants":{"yes":true},"targeting":{"if":[false,"yes"]}},
  "staff":{"state":"ENABLED","variants":{"in":true,"out":false},"defaultVariant":"out","targeting":{"if":[{"$ref":"staff"},"in"]}},
  "env":{"state":"ENABLED","variants":{"p":"prod","d":"dev"},"defaultVariant":"d",
         "targeting":{"if":[{"==":[{"var":"environment"},"production"]},"p",null]}},
  "deep":{"state":"ENABLED","variants":{"y":"y","n":"n"},"defaultVariant":"n",
         "targeting":{"if":[{"==":[{"var":"user.roles.1"},"admin"]},"y"]}},
  "odd":{"state":"ENABLED","variants":{"a":"a"},"defaultVariant":"a","targeting":{"if":[true,"none"]}},
  "broken":{"state":"ENABLED","variants":{"a":"a"},"defaultVariant":"a","targeting":{"missing_some":[1,{"var":"none"}]}}
}}"#;

const V1: &str = "flagd.evaluation.v1.Service";
const V2: &str = "flagd.evaluation.v2.Service";
const SCHEMA: &str = "schema.v1.Service";
const SYNC: &str = "flagd.sync.v1.FlagSyncService";

/// A sidecar that serves [`FLAGS`] from a file.
async fn sidecar() -> (App, Sidecar) {
    sidecar_with("bucketing: v2").await
}

/// The same with another setting of `flags`.
async fn sidecar_with(setting: &str) -> (App, Sidecar) {
    let app = App::start().await;
    let directory = tempfile::tempdir().unwrap();
    let flags = directory.path().join("flags.json");
    std::fs::write(&flags, FLAGS).unwrap();
    let sidecar = Sidecar::start_in(
        directory,
        &format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{}' }}]\n\
             drain: {{ delay: 0s, quiet: 0s, deadline: 10s }}\n\
             flags: {{ files: ['{}'], context: {{ environment: production, tier: 2, ratio: 0.5 }}, {setting} }}",
            app.address,
            flags.display()
        ),
    );
    sidecar.ready().await;
    (app, sidecar)
}

/// Replaces the flags.
fn write(sidecar: &Sidecar, flags: &str) {
    let (path, new) = (sidecar.directory().join("flags.json"), sidecar.directory().join("flags.new"));
    std::fs::write(&new, flags).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A request for one flag.
fn ask(key: &str, context: Value) -> Value {
    json!({ "flagKey": key, "context": context })
}

/// Waits until a metric has this value.
async fn until_metric(sidecar: &Sidecar, name: &str, labels: &str, value: f64) {
    let limit = std::time::Duration::from_secs(30);
    let why = format!("{name} of {labels} is {value}");
    eventually(limit, &why, async || sidecar.metric(name, labels).await == value).await;
}
