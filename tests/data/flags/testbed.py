"""Makes testbed.json: the evaluation scenarios of flagd's own conformance suite, with the flags they are about.

Source: https://github.com/open-feature/flagd-testbed 3.9.0 (Apache-2.0), the gherkin files listed below. Run
`python3 testbed.py CHECKOUT` in this directory. Connection scenarios, and those of several flag sets, are not about
evaluation and are left out; so is the suite marked @deprecated, which another replaces.

Each case: set of flags, bucketing version or null where none is asked for, flag, type, context, expected value, the
application's default, reason, error code, metadata; null for what is not asked for.
"""
import json, os, re, sys

root = sys.argv[1]
FEATURES = {
    "evaluator": [f"evaluator/gherkin/{name}.feature" for name in (
        "disabled", "errors", "evaluation", "evaluator-refs", "fractional", "metadata", "no-default-variant", "semver",
        "string", "targeting", "zero-values")],
    "providers": ["gherkin/disabled.feature", "gherkin/evaluation.feature", "gherkin/metadata.feature", "gherkin/targeting.feature"],
}
FILES = {
    "evaluator": ["evaluator/flags/testkit-flags.json"],
    "providers": [f"flags/{name}.json" for name in (
        "custom-ops", "disabled-flags", "edge-case-flags", "evaluator-refs", "metadata-flags", "testing-flags", "zero-flags")],
}


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def scenarios(text):
    """Yields (tags, steps, tables after steps) with the examples filled in."""
    background, steps, tags, feature, current, found = [], [], [], [], None, []
    examples, header = None, None
    for line in text.splitlines() + ["Scenario: end"]:
        line = line.strip()
        if line.startswith("@"):
            tags += line.split()
        elif line.startswith("Feature:"):
            feature, tags = tags, []
        elif line.startswith("Background:"):
            current = background
        elif line.startswith("Scenario"):
            if steps is not None and current is steps:
                yield from filled(found, background, steps)
            steps, found = [], [(tags, None, None)]
            current, scenario, tags, header, examples = steps, tags, [], None, None
        elif line.startswith("Examples:"):
            if found and found[0][1] is None:
                found.clear()
            examples, header, own, tags = True, None, scenario + tags, []
        elif line.startswith("|") and examples:
            if header is None:
                header = cells(line)
            else:
                found.append((own, header, cells(line)))
        elif line.startswith("|"):
            current[-1][1].append(cells(line))
        elif re.match(r"(Given|When|Then|And) ", line):
            current.append((line.split(" ", 1)[1], []))


def filled(found, background, steps):
    for tags, header, row in found:
        pairs = list(zip(header, row)) if header else []
        def fill(text):
            for name, value in pairs:
                text = text.replace(f"<{name}>", value)
            return text
        yield tags, [(fill(step), table) for step, table in background + steps]


def typed(kind, text):
    if kind == "String":
        return text
    if kind == "Boolean":
        return text == "true"
    text = text.replace('\\"', '"')
    if kind == "Object":
        return Raw(text)
    return Raw(text) if kind in ("Integer", "Float") else text


class Raw(str):
    """A value whose text is kept as it is: key order, doubled keys and the sign of zero matter."""


def dump(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


cases = []
for name, files in FEATURES.items():
    for file in files:
        for tags, steps in scenarios(open(os.path.join(root, file), encoding="utf-8").read()):
            if "@deprecated" in tags:
                continue
            context, key, kind, default, expected = {}, None, None, None, {}
            for step, table in steps:
                if step.startswith('an option "selector"'):
                    key = None
                    break
                if m := re.match(r'a (\w+)-flag with key "(.*)" and a (?:default|fallback) value "(.*)"$', step):
                    kind, key, default = m.groups()
                elif m := re.match(r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"$', step, re.S):
                    context[m[1]] = typed(m[2], m[3])
                elif m := re.match(r'a context containing a targeting key with value "(.*)"$', step):
                    context["targetingKey"] = m[1]
                elif m := re.match(r'a context containing a nested property with outer key "(.*)" and inner key "(.*)", with value "(.*)"$', step):
                    context[m[1]] = {m[2]: m[3]}
                elif m := re.match(r'the resolved details value should be "(.*)"$', step):
                    expected["value"] = typed(kind, m[1])
                elif m := re.match(r'the reason should be "(.*)"$', step):
                    expected["reason"] = m[1]
                elif m := re.match(r'the error-code should be "(.*)"$', step):
                    expected["error"] = m[1] or None
                elif step == "the resolved metadata is empty":
                    expected["metadata"] = {}
                elif step == "the resolved metadata should contain":
                    expected["metadata"] = {row[0]: typed(row[1], row[2]) for row in table[1:]}
                elif not re.match("the flag was evaluated with details|an evaluator|a stable flagd provider|an option", step):
                    raise SystemExit(f"{file}: what is {step!r}?")
            if key is None:
                continue
            version = next((tag[-2:] for tag in tags if re.match("@fractional-v[0-9]$", tag)), None)
            cases.append((name, version, key, kind, context, expected.get("value"), typed(kind, default), expected.get("reason"),
                          expected.get("error"), expected.get("metadata")))

sets = {}
for name, files in FILES.items():
    whole = {"flags": {}, "$evaluators": {}}
    for file in files:
        document = json.load(open(os.path.join(root, file), encoding="utf-8"))
        whole["flags"].update(document["flags"])
        whole["$evaluators"].update(document.get("$evaluators", {}))
    sets[name] = whole

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "testbed.json"), "w", encoding="utf-8") as out:
    out.write('{"origin":"flagd-testbed 3.9.0 (Apache-2.0), by testbed.py","sets":{\n')
    out.write(",\n".join(f'{json.dumps(name)}:{{"$evaluators":{json.dumps(whole["$evaluators"])},"flags":{{\n'
                         + ",\n".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in whole["flags"].items()) + "}}"
                         for name, whole in sets.items()))
    out.write('},\n"cases":[\n' + ",\n".join(map(dump, cases)) + "\n]}\n")
print(len(cases))
