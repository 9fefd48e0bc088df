"""A chart rendered by Helm's own engine: the objects as a JSON list, or why Helm refuses.

helm.py CHART RELEASE NAMESPACE VALUES, the values as JSON. `helm.py CHART` lints it as `helm lint --strict` does.
"""

import json
import sys

import helm_python

from objects import objects

chart, *rest = sys.argv[1:]
if not rest:
    report = helm_python.lint(chart, strict=True)
    for message in report["messages"]:
        # 1 is advice; that a chart has no icon is all it has to say.
        if message["severity"] > 1:
            sys.exit(f"{message['path']}: {message['error']}")
    sys.exit("\n".join(report["errors"]) or 0)
name, namespace, values = rest
with helm_python.Chart.load(chart) as loaded:
    try:
        files = loaded.render(json.loads(values), name=name, namespace=namespace, revision=1)
    except helm_python.HelmError as error:
        sys.exit(str(error))
rendered = [o for path, text in sorted(files.items()) if path.endswith(".yaml") for o in objects(text)]
json.dump(rendered, sys.stdout)
