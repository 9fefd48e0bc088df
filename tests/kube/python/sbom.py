"""Holds bills of materials against the JSON schema of CycloneDX 1.6, formats and SPDX licence ids included."""

import json
import sys
from importlib import resources

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

schemas = resources.files("cyclonedx.schema._res")


def schema(name):
    return json.loads(schemas.joinpath(f"{name}.SNAPSHOT.schema.json").read_text())


registry = Registry()
for name in ("bom-1.6", "spdx", "jsf-0.82"):
    content = schema(name)
    registry = registry.with_resource(content["$id"], Resource.from_contents(content, DRAFT7))
validator = Draft7Validator(schema("bom-1.6"), registry=registry)
for path in sys.argv[1:]:
    found = sorted(validator.iter_errors(json.load(open(path))), key=str)
    for error in found:
        print(f"{path}: {error.json_path}: {error.message[:300]}", file=sys.stderr)
    if found:
        sys.exit(1)
