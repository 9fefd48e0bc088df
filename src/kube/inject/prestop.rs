//! The app's `preStop` hook: what it did before, and the sidecar's in its place.

use serde_json::{Value, json};

use super::json::{at, list, text};
use crate::ops::DRAIN_TOKEN;

/// What a hook does.
#[derive(Debug, PartialEq)]
pub(super) enum Hook {
    /// There is none.
    None,
    /// It waits, this many seconds.
    Sleeps(u64),
    /// It is ours.
    Ours,
    /// Something else.
    Other,
}

/// What the hook of a container's `lifecycle` does.
pub(super) fn classify(hook: Option<&Value>) -> Hook {
    let Some(hook) = hook.filter(|hook| !hook.is_null()) else { return Hook::None };
    if token(hook).is_some() {
        return Hook::Ours;
    }
    if let Some(seconds) = at(hook, &["sleep", "seconds"]).and_then(Value::as_u64) {
        return Hook::Sleeps(seconds);
    }
    let command: Vec<&str> = hook
        .get("exec")
        .map(|exec| list(exec, "command").iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    sleep(&command).map_or(Hook::Other, Hook::Sleeps)
}

/// The seconds of a command that does nothing but sleep.
fn sleep(command: &[&str]) -> Option<u64> {
    let file = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match command {
        [program, time] if file(program) == "sleep" => {
            let seconds: f64 = time.strip_suffix('s').unwrap_or(time).parse().ok()?;
            // Whoever sleeps for longer than a day means something else.
            (0.0..=86_400.0).contains(&seconds).then(|| std::time::Duration::from_secs_f64(seconds.ceil()).as_secs())
        }
        [shell, "-c", script] if matches!(&*file(shell), "sh" | "bash" | "ash" | "dash") => {
            let words: Vec<&str> = script.trim().trim_end_matches(';').split_whitespace().collect();
            let words = words.strip_prefix(&["exec"]).unwrap_or(&words);
            if words.len() == 2 { sleep(words) } else { None }
        }
        _ => None,
    }
}

/// The token in a hook of ours.
pub(super) fn token(hook: &Value) -> Option<&str> {
    let get = hook.get("httpGet").filter(|get| text(get, "path") == Some("/drain"))?;
    let ours =
        |header: &&Value| text(header, "name").is_some_and(|name| DRAIN_TOKEN.as_str().eq_ignore_ascii_case(name));
    list(get, "httpHeaders").iter().find(ours).and_then(|header| text(header, "value"))
}

/// Ours: the kubelet asks the pod's address, hence the token. It is answered once nothing is in flight.
pub(super) fn ours(port: u16, scheme: Option<&str>, token: &str) -> Value {
    let mut get = json!({
        "path": "/drain",
        "port": port,
        "httpHeaders": [{ "name": "Tidegate-Drain-Token", "value": token }],
    });
    if let Some(scheme) = scheme {
        get["scheme"] = scheme.into();
    }
    json!({ "httpGet": get })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_only_sleep_are_told_from_others() {
        let exec = |command: &[&str]| json!({ "exec": { "command": command } });
        for (hook, expected) in [
            (json!({ "sleep": { "seconds": 15 } }), Hook::Sleeps(15)),
            (exec(&["sleep", "5"]), Hook::Sleeps(5)),
            (exec(&["/bin/sleep", "4.2s"]), Hook::Sleeps(5)),
            (exec(&["sh", "-c", "sleep 20"]), Hook::Sleeps(20)),
            (exec(&["/bin/bash", "-c", " exec sleep 20; "]), Hook::Sleeps(20)),
            (exec(&["sh", "-c", "sleep 20 && nginx -s quit"]), Hook::Other),
            (exec(&["sh", "-c", "sleep 20; kill 1"]), Hook::Other),
            (exec(&["sh", "-c", "sleep $T"]), Hook::Other),
            (exec(&["sleep", "NaN"]), Hook::Other),
            (exec(&["sleep", "-5"]), Hook::Other),
            (exec(&["sleep", "infinity"]), Hook::Other),
            (exec(&["sleep"]), Hook::Other),
            (exec(&["nginx", "-s", "quit"]), Hook::Other),
            (json!({ "httpGet": { "path": "/drain", "port": 8014 } }), Hook::Other),
            (json!({ "exec": 5 }), Hook::Other),
            (ours(8014, None, "t"), Hook::Ours),
            (Value::Null, Hook::None),
        ] {
            assert_eq!(classify(Some(&hook)), expected, "{hook}");
        }
        assert_eq!(classify(None), Hook::None);
        assert_eq!(token(&ours(8014, Some("HTTPS"), "secret")), Some("secret"));
    }
}
