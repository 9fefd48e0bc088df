"""Makes fractional.json: bucketing version 2 by an implementation of its own, over mmh3 (pip install mmh3).

Each case: flag key, the context, the arguments of `fractional`, the hash where there is a key, and the result.
"""
import json, mmh3, os, random

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
