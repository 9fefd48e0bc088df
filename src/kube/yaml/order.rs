//! The order in which people write the keys of a manifest; those it does not know come last, by the alphabet.

/// Keys of all levels in one list: none stands in two levels in another order.
const KEYS: [&str; 62] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "spec",
    "type",
    "parallelism",
    "completions",
    "backoffLimit",
    "replicas",
    "selector",
    "strategy",
    "serviceName",
    "updateStrategy",
    "schedule",
    "concurrencyPolicy",
    "jobTemplate",
    "template",
    "image",
    "imagePullPolicy",
    "restartPolicy",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "command",
    "args",
    "workingDir",
    "key",
    "value",
    "valueFrom",
    "env",
    "envFrom",
    "path",
    "containerPort",
    "hostPort",
    "port",
    "targetPort",
    "protocol",
    "ports",
    "scheme",
    "httpHeaders",
    "httpGet",
    "exec",
    "lifecycle",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "resources",
    "securityContext",
    "mountPath",
    "initContainers",
    "containers",
    "volumeMounts",
    "volumes",
];

/// Where a key comes among its kind; the lower, the earlier.
pub(super) fn rank(key: &str) -> (usize, &str) {
    (KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len()), key)
}

/// Whether the key's place is known.
pub(super) fn known(key: &str) -> bool {
    KEYS.contains(&key)
}

/// The entry of `keys` that a new key comes right before or behind.
pub(super) enum Place {
    Before(usize),
    Behind(usize),
}

/// Where `new` belongs among `keys`, which stand as somebody ordered them; `None` when there are none.
pub(super) fn place<'k>(new: &str, keys: impl Iterator<Item = &'k str> + Clone) -> Option<Place> {
    let last = keys.clone().count().checked_sub(1)?;
    if !known(new) {
        return Some(Place::Behind(last));
    }
    let ranked = keys.enumerate().filter(|(_, key)| known(key)).map(|(index, key)| (rank(key), index));
    let new = rank(new);
    let before = ranked.clone().filter(|(rank, _)| *rank < new).max();
    let behind = ranked.filter(|(rank, _)| *rank > new).min();
    Some(match (before, behind) {
        (Some((_, index)), _) => Place::Behind(index),
        (None, Some((_, index))) => Place::Before(index),
        (None, None) => Place::Behind(last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_stands_where_people_look_for_it() {
        let check = |new: &str, keys: &[&str], expected: &str| {
            let told = match place(new, keys.iter().copied()) {
                Some(Place::Before(index)) => format!("before {}", keys[index]),
                Some(Place::Behind(index)) => format!("behind {}", keys[index]),
                None => "alone".to_owned(),
            };
            assert_eq!(told, expected, "{new} among {keys:?}");
        };
        check("lifecycle", &["name", "image", "ports", "readinessProbe", "resources"], "behind ports");
        check("initContainers", &["affinity", "containers", "volumes"], "before containers");
        check("initContainers", &["serviceAccountName", "containers"], "behind serviceAccountName");
        check("annotations", &["name", "labels"], "behind labels");
        check("labels", &["annotations", "name"], "behind name");
        check("zebra", &["name", "affinity"], "behind affinity");
        check("name", &["affinity"], "behind affinity");
        check("name", &[], "alone");
    }

    #[test]
    fn the_order_names_no_key_twice() {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), KEYS.len());
    }
}
