"""Holds manifests against what a cluster would say of them, and prints every objection.

manifests.py VERSIONS FILE…   (VERSIONS: 1.29,1.37; newest is the newest there is; FILE: YAML or JSON)

- Kubernetes' own OpenAPI schema, strict: no field that it does not know.
- What they say of each other: selectors, named ports, accounts, budgets.
- The Pod Security Standard "restricted", for every pod template.
"""

import functools
import json
import sys

import kubernetes_validate
from kubernetes_validate import utils

from objects import objects

# A schema is megabytes of JSON, read for every object otherwise.
utils.schema_contents = functools.lru_cache(None)(utils.schema_contents)
# Kinds that others define, whose schemas are not Kubernetes' own.
FOREIGN = {"cert-manager.io"}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def name(item):
    return f"{item.get('kind')}/{item.get('metadata', {}).get('name')}"


def schema(item, versions):
    if item.get("apiVersion", "").split("/")[0] in FOREIGN:
        return
    for version in versions:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            path = ".".join(str(part) for part in getattr(error, "path", []))
            yield f"{path}: {error.message[:300]} (Kubernetes {version})"


def template(item):
    """The pod template of a workload, or of a Pod itself."""
    spec = item.get("spec") or {}
    if item.get("kind") == "Pod":
        return item
    if item.get("kind") == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template") if "containers" in ((spec.get("template") or {}).get("spec") or {}) else None


def containers(pod):
    return [*pod.get("initContainers", []), *pod["containers"], *pod.get("ephemeralContainers", [])]


def restricted(pod):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, for Linux."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {', '.join(sorted(kinds - VOLUMES))}"
    own = pod.get("securityContext") or {}
    if own.get("sysctls"):
        yield "sets sysctls"
    for container in containers(pod):
        at = f"container {container['name']}"
        context = container.get("securityContext") or {}
        capabilities = context.get("capabilities") or {}
        if context.get("privileged"):
            yield f"{at} is privileged"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{at} allows escalation"
        if "ALL" not in capabilities.get("drop", []):
            yield f"{at} does not drop all capabilities"
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{at} adds capabilities"
        if context.get("procMount", "Default") != "Default":
            yield f"{at} has another procMount"
        if any("hostPort" in port and port["hostPort"] for port in container.get("ports", [])):
            yield f"{at} takes a port of the host"
        if context.get("runAsNonRoot", own.get("runAsNonRoot")) is not True:
            yield f"{at} may run as root"
        if context.get("runAsUser", own.get("runAsUser")) == 0:
            yield f"{at} runs as root"
        profile = context.get("seccompProfile", own.get("seccompProfile")) or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{at} has no seccomp profile"


def ports(pod):
    """Names and numbers that a Service finds: those of containers that run beside the app's."""
    running = [c for c in containers(pod) if c in pod["containers"] or c.get("restartPolicy") == "Always"]
    declared = [port for c in running for port in c.get("ports", [])]
    return {p["name"] for p in declared if "name" in p} | {p["containerPort"] for p in declared}


def duplicates(pod):
    declared = [p["name"] for c in containers(pod) for p in c.get("ports", []) if "name" in p]
    for found in sorted({name for name in declared if declared.count(name) > 1}):
        yield f"port name {found} is declared twice"
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in containers(pod):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"container {container['name']} mounts {mount['name']}, which is no volume"
        own = ports({"containers": [container]})
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            action = container.get(probe) or {}
            port = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
            if isinstance(port, str) and port not in own:
                yield f"container {container['name']}: {probe} names port {port}, which it does not declare"


def together(items):
    """What objects say of each other."""
    templates = [t for t in map(template, items) if t]

    def selected(selector):
        return [t for t in templates if selector.items() <= (t["metadata"].get("labels") or {}).items()]

    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    for item in items:
        spec = item.get("spec") or {}
        own = template(item)
        if item["kind"] == "Service" and spec.get("selector"):
            pods = selected(spec["selector"])
            if not pods:
                yield f"{name(item)}: selects no pod here"
            for port in spec["ports"]:
                for pod in pods:
                    if port.get("targetPort", port["port"]) not in ports(pod["spec"]):
                        yield f"{name(item)}: targetPort {port.get('targetPort')} is not declared"
        if item["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = spec.get("selector", spec.get("podSelector"))
            pods = selected(selector["matchLabels"])
            if not pods:
                yield f"{name(item)}: selects no pod here"
            for rule in [*spec.get("ingress", [])]:
                for port in rule.get("ports", []):
                    if isinstance(port["port"], str) and any(port["port"] not in ports(p["spec"]) for p in pods):
                        yield f"{name(item)}: port {port['port']} is not declared"
        if own and item["kind"] != "Pod":
            wanted = (spec.get("selector") or {}).get("matchLabels", {})
            if not wanted.items() <= (own["metadata"].get("labels") or {}).items():
                yield f"{name(item)}: its selector does not select its own pods"
            account = own["spec"].get("serviceAccountName")
            if account and ("ServiceAccount", account) not in names:
                yield f"{name(item)}: no ServiceAccount {account} here"
        if item["kind"].endswith("RoleBinding"):
            if (item["roleRef"]["kind"], item["roleRef"]["name"]) not in names:
                yield f"{name(item)}: no {item['roleRef']['kind']} {item['roleRef']['name']} here"
            for subject in item["subjects"]:
                if (subject["kind"], subject["name"]) not in names:
                    yield f"{name(item)}: no {subject['kind']} {subject['name']} here"


def objections(items, versions):
    for item in items:
        for text in schema(item, versions):
            yield f"{name(item)}: {text}"
        pod = template(item)
        if pod:
            for text in [*duplicates(pod["spec"]), *restricted(pod["spec"])]:
                yield f"{name(item)}: {text}"
    yield from together(items)


def main():
    wanted, *paths = sys.argv[1:]
    versions = [kubernetes_validate.latest_version() if v == "newest" else v for v in wanted.split(",")]
    count = 0
    for path in paths:
        text = open(path).read()
        items = json.loads(text) if text.startswith("[") else objects(text)
        if not items:
            print(f"{path}: no objects")
            count += 1
        for objection in objections(items, versions):
            print(f"{path}: {objection}")
            count += 1
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
