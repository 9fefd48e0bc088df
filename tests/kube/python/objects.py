"""The objects of manifests as a JSON list: YAML for whoever compares them."""

import json
import sys

import yaml


def objects(text):
    """Documents that hold an object, those of a `List` by themselves."""
    found = []
    for document in yaml.safe_load_all(text):
        if document and document.get("kind") == "List":
            found += document["items"]
        elif document:
            found.append(document)
    return found


if __name__ == "__main__":
    json.dump([o for path in sys.argv[1:] for o in objects(open(path).read())], sys.stdout)
