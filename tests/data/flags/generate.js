// Makes json_logic.json and pairs.json: what json-logic-js 2.0.5 (https://github.com/jwadhams/json-logic-js) gives for
// the cases below. Run with `npm install json-logic-js@2.0.5 && node generate.js` in this directory.
// Results are texts: JSON, but NaN, Infinity, -Infinity and undefined as such, and any object as {}.
const logic = require(process.env.JSON_LOGIC || "json-logic-js");
const fs = require("fs");

const show = (v) =>
  v === undefined ? "undefined"
  : typeof v === "number" ? String(v)
  : Array.isArray(v) ? "[" + v.map(show).join(",") + "]"
  : v !== null && typeof v === "object" ? "{}"
  : JSON.stringify(typeof v === "string" ? v.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd") : v); // no lone surrogates in UTF-8
const run = (rule, data) => {
  try { return show(logic.apply(rule, data)); } catch { return "throws"; }
};

// Every operator of two operands on every pair of values that have made implementations differ.
const values = [
  null, true, false, 0, 1, -1, 2, 1.5, 1e21, 1e-7, "", " ", "0", "1", "01", "1.0", " 1 ", "1e1", "0x10", "abc", "a", "true",
  "null", "NaN", "Infinity", "-Infinity", "1,2", ".5", "5.", "1px", "é", "\u{1f600}", "\uffff", "[object Object]",
  [], [0], [1], ["1"], ["abc"], [1, 2], [[]], [null], [[1], "2"], {}, { a: 1 },
];
const binary = ["==", "===", "!=", "!==", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "min", "max", "in", "cat", "merge", "substr", "and", "or"];
const results = {};
for (const op of binary) {
  results[op] = values.map((a) => values.map((b) => run({ [op]: [{ var: "a" }, { var: "b" }] }, { a, b: structuredClone(b) })));
}
const unary = ["!", "!!", "+", "-", "*", "min", "max", "cat", "merge", "log", "missing", "var", "==", "<", "in", "and", "if", "/", "%"];
const single = {};
for (const op of unary) single[op] = values.map((a) => run({ [op]: [{ var: "a" }] }, { a }));
const line = (o) => "{\n" + Object.entries(o).map(([k, v]) => JSON.stringify(k) + ":" +
  (Array.isArray(v[0]) ? "[\n" + v.map((r) => JSON.stringify(r)).join(",\n") + "]" : JSON.stringify(v))).join(",\n") + "}";
fs.writeFileSync(__dirname + "/pairs.json",
  `{"origin":"json-logic-js 2.0.5, by generate.js","values":${JSON.stringify(values)},\n"binary":${line(results)},\n"unary":${line(single)}}\n`);

// Rules by hand: each operator's forms and edges.
const user = {
  targetingKey: "u1", email: "ann@example.com", age: 21, beta: true, nothing: null, empty: "", zero: 0,
  address: { city: "Berlin", geo: { lat: 52.5 } }, roles: ["admin", "dev"], list: [1, 2, 3, 4], matrix: [[1, 2], [3]],
  "dotted.name": 1, items: [{ qty: 1, price: 2 }, { qty: 3, price: 4 }, { qty: 0, price: 9 }], "": "blank", text: "hello wörld \u{1f600}!",
};
const cases = [];
const add = (rule, data = user) => cases.push([rule, data]);
for (const path of ["age", "address.city", "address.geo.lat", "address.none.x", "roles.0", "roles.1", "roles.2", "roles.-1", "roles.00",
  "matrix.0.1", "nothing", "nothing.x", "none", "", "list.length", "email.length", "email.0", "email.99", "text.length", "text.7", "items.1.qty",
  "beta.x", "age.x", "dotted.name", ".", "address.", "targetingKey"]) {
  add({ var: path }); add({ var: [path] }); add({ var: [path, "dflt"] }); add({ "!!": { var: path } });
}
add({ var: [] }); add({ var: null }); add({ var: 1 }, [5, 6, 7]); add({ var: "1" }, [5, 6, 7]); add({ var: 1.5 }, { 1: { 5: "x" } });
add({ var: ["none", { var: "age" }] }); add({ var: ["none", null] }); add({ var: [{ cat: ["a", "ge"] }] }); add({ var: { var: "key" } }, { key: "k", k: 3 });
add({ var: "a" }, null); add({ var: "" }, 5); add({ var: "x" }, "text"); add({ var: true }, { true: 1 }); add({ var: [["a", "b"]] }, { "a,b": 4 });
add({ missing: ["age", "none"] }); add({ missing: "age" }); add({ missing: "none" }); add({ missing: [["age", "none", "empty"]] }); add({ missing: [] });
add({ missing: ["nothing", "zero", "address.none"] }); add({ missing: { merge: [["age"], "none"] } }); add({ missing: [0, 5] }, [1]);
add({ missing_some: [1, ["age", "none"]] }); add({ missing_some: [2, ["age", "none", "x"]] }); add({ missing_some: [0, []] });
add({ missing_some: [1, "age"] }); add({ missing_some: [4, "none"] }); add({ missing_some: [1] }); add({ missing_some: [1, null] }); add({ missing_some: ["1", ["age", "q"]] });
for (const op of ["if", "?:"]) {
  add({ [op]: [] }); add({ [op]: [7] }); add({ [op]: [true, 1] }); add({ [op]: [false, 1] }); add({ [op]: [true, 1, 2] }); add({ [op]: [false, 1, 2] });
  add({ [op]: [false, 1, false, 2] }); add({ [op]: [false, 1, true, 2, 3] }); add({ [op]: [[], 1, 0, 2, "", 3, null, 4, 5] }); add({ [op]: [[0], 1, 2] });
  add({ [op]: ["0", 1, 2] }); add({ [op]: { var: "age" } }); add({ [op]: [{ ">": [{ var: "age" }, 18] }, "adult", "minor"] });
}
for (const op of ["and", "or"]) {
  add({ [op]: [] }); add({ [op]: [true] }); add({ [op]: [true, "", 3] }); add({ [op]: [0, [], "x", 2] }); add({ [op]: [[], false, null] }); add({ [op]: { var: "beta" } });
}
for (const op of ["<", "<=", ">", ">=", "==", "===", "!=", "!=="]) {
  add({ [op]: [] }); add({ [op]: [1] }); add({ [op]: [null] }); add({ [op]: [1, 2, 3] }); add({ [op]: [1, 3, 2] }); add({ [op]: [1, 1, 1] }); add({ [op]: ["a", "b", "c"] });
  add({ [op]: [1, { var: "age" }, 30] }); add({ [op]: ["B", "a"] }); add({ [op]: ["10", "9"] }); add({ [op]: ["10", 9] }); add({ [op]: [1, 2, null] });
  add({ [op]: [{ var: "roles" }, { var: "roles" }] }); add({ [op]: [["a"], ["a"]] });
}
for (const op of ["!", "!!"]) { add({ [op]: [] }); add({ [op]: [[]] }); add({ [op]: [[[]]] }); add({ [op]: "0" }); add({ [op]: [true, false] }); add({ [op]: {} }); }
for (const op of ["+", "*", "-", "/", "%", "min", "max"]) {
  add({ [op]: [] }); add({ [op]: [3] }); add({ [op]: ["3"] }); add({ [op]: [4, 2] }); add({ [op]: [4, 2, 1] }); add({ [op]: ["1.5abc", "2 "] });
  add({ [op]: [5, 0] }); add({ [op]: [-5, 3] }); add({ [op]: [5.5, -2] }); add({ [op]: [null, 1] }); add({ [op]: [true, 1] }); add({ [op]: [[1, 2], 1] });
  add({ [op]: ["+1", "-.5e1x"] }); add({ [op]: ["Infinityx", 1] }); add({ [op]: [{ var: "age" }, 1] }); add({ [op]: ["1e", "2e+"] }); add({ [op]: [0.1, 0.2] });
}
add({ in: ["a", "banana"] }); add({ in: ["x", "banana"] }); add({ in: ["", "banana"] }); add({ in: ["", ""] }); add({ in: [1, "123"] }); add({ in: [null, "null"] });
add({ in: ["dev", { var: "roles" }] }); add({ in: ["ops", { var: "roles" }] }); add({ in: ["1", [1, 2]] }); add({ in: [1, [1, 2]] }); add({ in: ["a", 5] }); add({ in: ["a"] });
add({ in: [[1], [[1]]] }); add({ in: ["a", null] }); add({ in: [{ var: "address.city" }, ["Berlin", "Wien", "a", "b", "c", "d", "e", "f", "g", "h"]] });
add({ in: [3, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]] }); add({ in: [null, ["a", null]] });
add({ cat: [] }); add({ cat: "x" }); add({ cat: ["a", 1, true, null, [1, [2, null]], { var: "none" }, 1.5, 1e21, 1e-7, 123456789012345680000] });
add({ cat: [0.000001, " ", 1e300, " ", -0.5, " ", 5e-324, " ", 100, " ", 1.7976931348623157e308, " ", 0.1] });
for (const args of [["jsonlogic", 4], ["jsonlogic", -5], ["jsonlogic", 1, 3], ["jsonlogic", 4, -2], ["jsonlogic", -5, 3], ["jsonlogic", -5, -2], ["jsonlogic", 20], ["jsonlogic", 0, 0],
  ["jsonlogic", 0, 99], ["jsonlogic", -99, 3], ["jsonlogic", 2, -99], [12345, 1, 2], [null, 1], ["jsonlogic"], ["jsonlogic", "2", "3"], ["jsonlogic", 1.9, 2.9], ["jsonlogic", 1, -1.5], [["a", "b"], 1], [true, 0, 2],
  ["jsonlogic", null, null], ["jsonlogic", 1, "-2"], [{ var: "text" }, 6, 5], [{ var: "text" }, -1], [{ var: "text" }, 0, -2], ["jsonlogic", "x"]]) add({ substr: args });
add({ merge: [] }); add({ merge: [1, 2] }); add({ merge: [[1], [2, [3]], 4, null] }); add({ merge: { var: "roles" } }); add({ merge: [{ var: "roles" }, { var: "list" }] });
for (const op of ["map", "filter", "all", "some", "none"]) {
  add({ [op]: [{ var: "list" }, { ">": [{ var: "" }, 2] }] }); add({ [op]: [{ var: "list" }, { "%": [{ var: "" }, 2] }] }); add({ [op]: [{ var: "items" }, { ">=": [{ var: "qty" }, 1] }] });
  add({ [op]: [[], true] }); add({ [op]: [{ var: "none" }, true] }); add({ [op]: ["text", true] }); add({ [op]: [{ var: "list" }] }); add({ [op]: [] }); add({ [op]: [{ var: "list" }, { var: "age" }] });
  add({ [op]: [[1, { "+": [1, 1] }, "x"], { "==": [{ var: "" }, 2] }] }); add({ [op]: [{ var: "list" }, true] }); add({ [op]: [{ var: "list" }, false] }); add({ [op]: [{ var: "matrix" }, { some: [{ var: "" }, { "===": [{ var: "" }, 3] }] }] });
}
add({ reduce: [{ var: "list" }, { "+": [{ var: "current" }, { var: "accumulator" }] }, 0] }); add({ reduce: [{ var: "list" }, { "+": [{ var: "current" }, { var: "accumulator" }] }] });
add({ reduce: [{ var: "items" }, { "+": [{ var: "accumulator" }, { "*": [{ var: "current.qty" }, { var: "current.price" }] }] }, 0] }); add({ reduce: [{ var: "none" }, 1, "init"] });
add({ reduce: [{ var: "roles" }, { cat: [{ var: "accumulator" }, "/", { var: "current" }] }, ""] }); add({ reduce: [{ var: "list" }, { var: "" }, 0] }); add({ reduce: [[], 1] });
add({ reduce: [{ var: "list" }, { merge: [{ var: "current" }, { var: "accumulator" }] }, []] }); add({ reduce: [{ var: "list" }, { var: "accumulator.current" }, 9] });
add({ log: "x" }); add({ log: { var: "age" } }); add(true); add("apple"); add(null); add([1, { var: "age" }]); add({});
add({ "!": [{ "!": [{ var: "beta" }] }] }); add({ if: [{ in: ["@example.com", { var: "email" }] }, { if: [{ var: "beta" }, "on", "off"] }, null] });

// Random rules over the same data, for what nobody thinks of. A fixed seed keeps them the same.
let seed = 42;
const rand = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.floor((seed / 2147483648) * n); };
const pick = (list) => list[rand(list.length)];
const literals = [null, true, false, 0, 1, 2, -1, 1.5, "", "a", "1", "admin", "age", [], [1], ["dev", 2]];
const paths = ["", "age", "roles", "list", "none", "address.city", "roles.0", "beta", "zero", "items", "current", "accumulator", "qty", "email"];
const ops = ["==", "===", "!=", "!==", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "min", "max", "in", "cat", "merge", "substr", "and", "or", "!", "!!", "if",
  "map", "filter", "all", "some", "none", "reduce", "missing", "missing_some", "log", "var"];
const random = (depth) => {
  if (depth === 0 || rand(5) === 0) return rand(2) ? { var: pick(paths) } : pick(literals);
  const op = pick(ops);
  // Without a list it throws, also as a surplus operand, which Tidegate does not evaluate.
  if (op === "missing_some") return { [op]: [random(depth - 1), [pick(paths), pick(paths)]] };
  return { [op]: Array.from({ length: op === "*" ? 1 + rand(3) : rand(4) }, () => random(depth - 1)) };
};
for (let n = 0; n < 1500; n++) add(random(3));
const lines = cases.map(([rule, data]) => JSON.stringify(data === user ? [rule, run(rule, data)] : [rule, run(rule, data), data]));
fs.writeFileSync(__dirname + "/json_logic.json",
  `{"origin":"json-logic-js 2.0.5, by generate.js","data":${JSON.stringify(user)},\n"cases":[\n${lines.join(",\n")}\n]}\n`);
