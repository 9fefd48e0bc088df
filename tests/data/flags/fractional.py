"""Makes fractional.json: bucketing version 2 by an implementation of its own, over mmh3 (pip install mmh3 cbor2), and
versions.json: the other versions.

Each case: flag key, the context, the arguments of `fractional`, the hash where there is a key, and the result; those of
versions.json begin with the version.
"""
import cbor2, json, mmh3, os, random

MAX = 2**31 - 1

def fractional(flag, context, args):
    args = list(args)
    key = None
    if args and isinstance(args[0], str):
        key = args.pop(0)
    elif args and args[0] is None:
        args.pop(0)
    if key is None:
        user = context.get("targetingKey")
        if not isinstance(user, str) or user == "":
            return None, None
        key = flag + user
    ends, total = [], 0
    for arg in args:
        if not isinstance(arg, list) or not arg or isinstance(arg[0], (list, dict)):
            return None, None
        weight = arg[1] if len(arg) > 1 and arg[1] is not None else 1
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight != int(weight):
            return None, None
        total += max(0, int(weight))
        ends.append((total, arg[0]))
    if total == 0 or total > MAX:
        return None, None
    h = mmh3.hash(key.encode(), 0, signed=False)
    bucket = (h * total) >> 32
    return h, next(v for end, v in ends if bucket < end)

random.seed(7)
halves = [["a", 50], ["b", 50]]
cases = []
def case(flag, context, args):
    h, result = fractional(flag, context, args)
    cases.append([flag, context, args, h, result])

case("fractional-flag-shorthand", {"targetingKey": "user-1"}, halves)
shapes = [halves, [["a", 1], ["b", 99]], [["a"], ["b"], ["c"]], [["a", 0], ["b", 1]], [["a", -5], ["b", 1]],
          [["a", MAX - 1], ["b", 1]], [["a", MAX], ["b", 1]], [["a", 0]], [["a", -1]], [["a", 1.5], ["b", 1]],
          [["a", 2.0], ["b", 2]], [["a", None], ["b"]], [[True, 1], [False, 1]], [[None, 1], ["b", 1]], [[1, 1], [2.5, 1]],
          [["a", "1"], ["b", 1]], [["a", True], ["b", 1]], [[], ["b"]], [["a", 25], ["b", 25], ["c", 25], ["d", 25]], ["x"], [5, ["a"]],
          [["only", 1]], [["a", 10], 7], [[["a"], 1]], [{}], []]
for shape in shapes:
    for context in ({"targetingKey": "user-1"}, {"targetingKey": "ünï-\U0001f600"}, {"targetingKey": ""}, {}, {"targetingKey": 5}, {"targetingKey": None}):
        case("flag", context, shape)
    for key in ("bucket-key", "", "é", None):
        case("flag", {"targetingKey": "u"}, [key, *shape])
        case("flag", {}, [key, *shape])
for n in range(300):
    weights = [[name, random.choice([1, 2, 3, 10, 33, 50, 1000, 10**6])] for name in "abcde"[: random.randint(1, 5)]]
    case(f"flag-{n % 7}", {"targetingKey": f"user-{random.getrandbits(40)}"}, weights)
with open(os.path.join(os.path.dirname(__file__), "fractional.json"), "w") as out:
    out.write('{"origin":"mmh3 and fractional.py","cases":[\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")
print(cases[0], len(cases))


def first(flag, context, args):
    """Version 1, as flagd 0.14 has it (core/pkg/evaluator/fractional.go)."""
    args = list(args)
    if len(args) < 2:
        return None, None
    if isinstance(args[0], str):
        key = args.pop(0)
    else:
        if args[0] is None:
            args.pop(0)
        if not isinstance(context.get("targetingKey"), str):
            return None, None
        key = flag + context["targetingKey"]
    shares, total = [], 0
    for arg in args:
        if not isinstance(arg, list) or not arg or not isinstance(arg[0], str):
            return None, None
        number = len(arg) > 1 and isinstance(arg[1], (int, float)) and not isinstance(arg[1], bool)
        weight = int(arg[1]) if number else 1
        total += weight
        shares.append((arg[0], weight))
    h = mmh3.hash(key.encode(), 0)
    bucket, end = abs(float(h)) / (2**31 - 1) * 100, 0.0
    for variant, weight in shares:
        end += 100.0 * weight / total if total else 0
        if bucket < end:
            return h % 2**32, variant
    return h % 2**32, ""


def normal(value):
    """Integral floats of 64 bits as integers."""
    if isinstance(value, float) and value.is_integer() and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    return {key: normal(item) for key, item in value.items()} if isinstance(value, dict) else value


def third(flag, context, args):
    """Version 3: version 2 over the deterministic CBOR of any value (flagd's architecture decision)."""
    if args and args[0] is None:
        return None, None
    if args and not isinstance(args[0], list):
        value, args = args[0], args[1:]
    else:
        user = context.get("targetingKey")
        if not isinstance(user, str) or user == "":
            return None, None
        value = [flag, user]
    h = mmh3.hash(cbor2.dumps(normal(value), canonical=True), 0, signed=False)
    # The shares are as in version 2: any key does to find out whether they are sound.
    if fractional(flag, {}, ["x", *args])[0] is None:
        return None, None
    end, total = 0, sum(max(0, int(a[1])) if len(a) > 1 and a[1] is not None else 1 for a in args)
    for arg in args:
        end += max(0, int(arg[1])) if len(arg) > 1 and arg[1] is not None else 1
        if (h * total) >> 32 < end:
            return h, arg[0]


cases = []
inputs = [True, False, 0, 1, -1, 1.5, -0.25, 1e300, 5e-324, 123456789012, 0.1, 65504.5, 2.5e10, {}, {"b": 1, "a": [1.0, None, "é"]}, {"aa": {"z": 1e-7}}, "", "1", "ünï-\U0001f600", None]
for shape in shapes:
    for context in ({"targetingKey": "user-1"}, {"targetingKey": "ünï-\U0001f600"}, {"targetingKey": ""}, {}, {"targetingKey": 5}):
        cases.append([1, "flag", context, shape, *first("flag", context, shape)])
        cases.append([3, "flag", context, shape, *third("flag", context, shape)])
for value in inputs:
    for shape in (halves, [["a"], ["b"], ["c"]], [["a", 1], ["b", 99]]):
        args = [value, *shape]
        cases.append([3, "flag", {"targetingKey": "u"}, args, *third("flag", {"targetingKey": "u"}, args)])
        if value is None or isinstance(value, str):
            cases.append([1, "flag", {"targetingKey": "u"}, args, *first("flag", {"targetingKey": "u"}, args)])
for n in range(200):
    weights = [[name, random.choice([1, 2, 3, 7, 10, 33, 50, 1000, 10**6])] for name in "abcdefg"[: random.randint(2, 7)]]
    context = {"targetingKey": f"user-{random.getrandbits(40)}"}
    cases.append([1, f"flag-{n % 7}", context, weights, *first(f"flag-{n % 7}", context, weights)])
    cases.append([3, f"flag-{n % 7}", context, weights, *third(f"flag-{n % 7}", context, weights)])
with open(os.path.join(os.path.dirname(__file__), "versions.json"), "w") as out:
    out.write('{"origin":"mmh3, cbor2 and fractional.py","cases":[\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")
print(len(cases))
