"""The bill of materials of the binary: CycloneDX 1.6 from what Cargo resolved, the same bytes for the same lock file.

Crates that are in the binary: normal dependencies for its target. Neither procedural macros nor build scripts' own crates
(they run while it is built), nor what only tests use.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def cargo(*arguments):
    """What a command of Cargo prints; no network, for the build before this one had it."""
    return subprocess.run(
        ["cargo", *arguments, "--locked"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def in_binary(target):
    """(name, version) of every crate in the binary. `cargo tree` knows which features tests alone switch on."""
    tree = cargo("tree", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
    found = set()
    for line in tree.splitlines():
        name, version = line.split(" ")[:2]
        found.add((name, version.removeprefix("v")))
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def licence(package):
    """An SPDX expression; `/` is how old manifests write OR."""
    return re.sub(r"\s*/\s*", " OR ", package["license"])


def component(package, checksums):
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": licence(package)}],
        "purl": purl(package),
    }
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    checksum = checksums.get((name, version))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def sbom(target, binary_sha256):
    """The document as text."""
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", target))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
    inside = in_binary(target)
    packages = {p["id"]: p for p in metadata["packages"] if (p["name"], p["version"]) in inside}
    if len(packages) != len(inside):
        raise SystemExit("image: `cargo tree` and `cargo metadata` tell of different crates")
    own = metadata["resolve"]["root"]
    for package in packages.values():
        if package["id"] != own and package["source"] != REGISTRY:
            raise SystemExit(f"image: {package['name']} is from {package['source']}, which purl() does not know")

    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    dependencies = []
    for key, package in packages.items():
        edges = [
            dep["pkg"]
            for dep in nodes[key]["deps"]
            if dep["pkg"] in packages and any(kind["kind"] is None for kind in dep["dep_kinds"])
        ]
        dependencies.append({"ref": purl(package), "dependsOn": sorted({purl(packages[edge]) for edge in edges})})

    main = component(packages.pop(own), checksums)
    del main["scope"]
    main["type"] = "application"
    main["hashes"] = [{"alg": "SHA-256", "content": binary_sha256}]
    main["properties"] = [{"name": "tidegate:target", "value": target}]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        # Neither a time nor a serial number: both would make every build another file.
        "metadata": {"component": main, "lifecycles": [{"phase": "build"}]},
        "components": sorted((component(p, checksums) for p in packages.values()), key=lambda c: c["bom-ref"]),
        "dependencies": sorted(dependencies, key=lambda d: d["ref"]),
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
