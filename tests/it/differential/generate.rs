//! Flags, rules and contexts as people write them, and now and then as nobody should.

use fastrand::Rng;
use serde_json::{Value, json};

/// Makes the same from the same seed.
pub(super) struct Generator(Rng);

const TEXTS: [&str; 14] =
    ["plan", "premium", "free", "de", "at", "ann@example.com", "", "a", "1", "0", "true", "1.2.3", "é", "null"];
const VERSIONS: [&str; 16] = [
    "1.0.0",
    "1.2.3",
    "v1.2.3",
    "1.2",
    "1",
    "2.0.0-rc.1",
    "2.0.0-rc.2",
    "1.2.3+build",
    "1.2.3.4",
    "x",
    "",
    "1.02.3",
    "V2.1.0",
    "2.0.0-alpha",
    "10.0.0",
    "1.2.3-",
];

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())].clone()
    }

    /// Whether something happens that does in `part` of 100 cases.
    fn chance(&mut self, part: u32) -> bool {
        self.0.u32(..100) < part
    }

    pub(super) fn evaluators(&mut self) -> Value {
        json!({
            "staff": {"ends_with": [{"var": "email"}, "@example.com"]},
            "adult": {">=": [{"var": "age"}, 18]},
            "split": {"fractional": [["a", 30], ["b", 70]]},
        })
    }

    pub(super) fn flag(&mut self) -> Value {
        let mut flag = json!({
            "state": if self.chance(3) { "DISABLED" } else { "ENABLED" },
            "variants": {"a": "A", "b": "B", "c": "C", "true": "T", "false": "F", "1": "one"},
        });
        match self.0.u32(..10) {
            0 => {}
            1 => flag["defaultVariant"] = Value::Null,
            2 => flag["defaultVariant"] = "".into(),
            _ => flag["defaultVariant"] = self.one(&["a", "b", "true"]).into(),
        }
        match self.0.u32(..20) {
            0 => {}
            1 => flag["targeting"] = json!({}),
            _ => flag["targeting"] = self.targeting(3),
        }
        flag
    }

    /// An operator that gives a variant, most of the time.
    fn targeting(&mut self, depth: u32) -> Value {
        match self.0.u32(..12) {
            0 => json!({ "var": self.one(&["pick", "beta", "plan", "none"]) }),
            1 | 2 => self.fractional(depth),
            3 => self.condition(depth),
            4 => json!({ "and": [self.condition(depth), self.result(depth)] }),
            5 => json!({ "or": [self.condition(0), self.result(depth)] }),
            6 => json!({ "cat": [self.one(&["", "a", "tru"]), self.one(&["", "b", "e"])] }),
            _ => self.choice(depth),
        }
    }

    fn choice(&mut self, depth: u32) -> Value {
        let mut operands = Vec::new();
        for _ in 0..1 + self.0.u32(..3) {
            operands.push(self.condition(depth));
            operands.push(self.result(depth));
        }
        if self.chance(70) {
            operands.push(self.result(depth));
        }
        json!({ "if": operands })
    }

    fn result(&mut self, depth: u32) -> Value {
        match self.0.u32(..12) {
            0 => Value::Null,
            1 => true.into(),
            2 => false.into(),
            3 => json!({ "var": self.one(&["pick", "beta", "none"]) }),
            4 => "nothing of that name".into(),
            5 if depth > 0 => self.choice(depth - 1),
            6 if depth > 0 => self.fractional(depth - 1),
            7 => 1.into(),
            _ => self.one(&["a", "b", "c"]).into(),
        }
    }

    fn fractional(&mut self, depth: u32) -> Value {
        if self.chance(10) {
            return json!({ "$ref": "split" });
        }
        let mut operands = Vec::new();
        match self.0.u32(..8) {
            0 => operands.push(json!({ "var": self.one(&["email", "user.name", "age", "none", "beta"]) })),
            1 => operands
                .push(json!({ "cat": [{ "var": "$flagd.flagKey" }, { "var": self.one(&["email", "age", "none"]) }] })),
            2 => operands.push(self.one(&["a fixed key", "x"]).into()),
            _ => {}
        }
        for _ in 0..1 + self.0.u32(..4) {
            let variant = match self.0.u32(..12) {
                0 if depth > 0 => self.choice(depth - 1),
                1 => true.into(),
                2 => Value::Null,
                _ => self.one(&["a", "b", "c"]).into(),
            };
            let weight = match self.0.u32(..24) {
                0 => json!(0),
                1 => json!(-5),
                2 => json!(2_147_483_647u32),
                3 => json!(1.5),
                4 => json!("10"),
                5 => json!({ "if": [self.condition(0), 100, 0] }),
                6 => json!({ "*": [{ "var": "age" }, 2] }),
                _ => json!(1 + self.0.u32(..100)),
            };
            operands.push(if self.chance(15) { json!([variant]) } else { json!([variant, weight]) });
        }
        json!({ "fractional": operands })
    }

    fn condition(&mut self, depth: u32) -> Value {
        if depth > 0 {
            let deeper = depth - 1;
            match self.0.u32(..10) {
                0 => return json!({ "and": self.conditions(deeper) }),
                1 => return json!({ "or": self.conditions(deeper) }),
                2 => return json!({ "!": [self.condition(deeper)] }),
                3 => return json!({ "!!": [self.condition(deeper)] }),
                4 => return self.over_list(),
                _ => {}
            }
        }
        match self.0.u32(..24) {
            0 => json!({ "==": [{ "var": self.text_name() }, self.text()] }),
            1 => json!({ "!=": [{ "var": self.text_name() }, self.text()] }),
            2 => json!({ "===": [{ "var": self.text_name() }, self.text()] }),
            3 => json!({ "!==": [{ "var": self.number_name() }, self.number()] }),
            4 => json!({ self.one(&["<", "<=", ">", ">="]): [{ "var": self.number_name() }, self.number()] }),
            5 => json!({ self.one(&["<", "<="]): [self.number(), { "var": self.number_name() }, self.number()] }),
            6 => json!({ "==": [{ "var": self.number_name() }, self.number()] }),
            7 => json!({ "in": [{ "var": self.text_name() }, [self.text(), self.text(), self.text()]] }),
            8 => json!({ "in": [self.text(), { "var": self.text_name() }] }),
            9 => json!({ "in": [self.text(), { "var": "roles" }] }),
            10 => json!({ "in": [{ "var": self.number_name() }, [self.number(), self.number()]] }),
            11 => json!({ self.one(&["starts_with", "ends_with"]): [{ "var": self.text_name() }, self.text()] }),
            12 | 13 => self.versions(),
            14 => json!({ "var": self.one(&["beta", "plan", "age", "roles", "user", "none", "user.name", "roles.0"]) }),
            15 => json!({ "$ref": self.one(&["staff", "adult"]) }),
            16 => {
                let operator = self.one(&["+", "-", "*", "/", "%"]);
                json!({ self.one(&["==", "<", ">="]): [{ operator: [{ "var": self.number_name() }, self.number()] }, self.number()] })
            }
            17 => {
                let operator = self.one(&["min", "max"]);
                json!({ ">": [{ operator: [{ "var": self.number_name() }, self.number(), self.number()] }, self.number()] })
            }
            18 => {
                json!({ "==": [{ "cat": [{ "var": self.text_name() }, "-", { "var": self.number_name() }] }, self.text()] })
            }
            19 => json!({ "==": [{ "substr": [{ "var": self.text_name() }, self.0.i32(-4..4)] }, self.text()] }),
            20 => {
                json!({ "==": [{ "substr": [{ "var": self.text_name() }, self.0.i32(-4..4), self.0.i32(-4..4)] }, self.text()] })
            }
            21 => json!({ "missing": [self.text_name(), self.number_name()] }),
            22 => json!({ "missing_some": [1, [self.text_name(), self.number_name(), "none"]] }),
            _ => json!({ "==": [{ "var": [self.text_name(), self.text()] }, self.text()] }),
        }
    }

    fn conditions(&mut self, depth: u32) -> Vec<Value> {
        (0..1 + self.0.u32(..3)).map(|_| self.condition(depth)).collect()
    }

    fn versions(&mut self) -> Value {
        let operator = self.one(&["=", "!=", "<", "<=", ">", ">=", "^", "~", "=="]);
        json!({ "sem_ver": [{ "var": "version" }, operator, self.one(&VERSIONS)] })
    }

    fn over_list(&mut self) -> Value {
        let item = json!({ self.one(&["==", "==="]): [{ "var": "" }, self.text()] });
        match self.0.u32(..6) {
            0 => json!({ "some": [{ "var": "roles" }, item] }),
            1 => json!({ "all": [{ "var": "roles" }, item] }),
            2 => json!({ "none": [{ "var": "roles" }, item] }),
            3 => json!({ "!!": [{ "filter": [{ "var": "roles" }, item] }] }),
            4 => json!({ "in": [self.text(), { "map": [{ "var": "roles" }, { "cat": [{ "var": "" }, ""] }] }] }),
            _ => {
                let sum = json!({ "+": [{ "var": "accumulator" }, { "var": "current" }] });
                json!({ ">": [{ "reduce": [{ "var": "counts" }, sum, 0] }, self.number()] })
            }
        }
    }

    fn text_name(&mut self) -> &'static str {
        self.one(&["plan", "country", "email", "user.name", "user.city.name", "none", "targetingKey", "roles.0"])
    }

    fn number_name(&mut self) -> &'static str {
        self.one(&["age", "age", "n", "counts.1", "none"])
    }

    fn text(&mut self) -> Value {
        self.one(&TEXTS).into()
    }

    fn number(&mut self) -> Value {
        match self.0.u32(..4) {
            0 => json!(self.0.i32(-3..40)),
            1 => json!(self.one(&[0.5, -1.25, 18.0, 1e21, 1e-7])),
            _ => json!(self.one(&[0, 1, 2, 18, 21, 30])),
        }
    }

    /// A value of the type that everyone expects, or of another one.
    fn or_odd(&mut self, expected: Value) -> Value {
        if self.chance(85) {
            return expected;
        }
        self.one(&[
            Value::Null,
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(-1.5),
            json!(""),
            json!("0"),
            json!("18"),
            json!(" 18 "),
            json!("1e1"),
            json!("abc"),
            json!([]),
            json!(["a"]),
            json!([1, "b"]),
            json!({}),
            json!({ "name": "x" }),
        ])
    }

    pub(super) fn context(&mut self) -> Value {
        let mut context = serde_json::Map::new();
        let user = format!("user-{}", self.0.u32(..10_000));
        let mail = format!("{}@{}", self.one(&["ann", "bob", "é"]), self.one(&["example.com", "example.org"]));
        let list = |items: Vec<Value>| Value::Array(items);
        let roles: Vec<Value> = (0..self.0.u32(..4)).map(|_| self.text()).collect();
        let counts: Vec<Value> = (0..self.0.u32(..4)).map(|_| self.number()).collect();
        let fields = [
            ("targetingKey", user.clone().into()),
            ("plan", self.one(&["premium", "free", "plan"]).into()),
            ("country", self.one(&["de", "at", "fr"]).into()),
            ("email", mail.into()),
            ("age", json!(self.0.u32(10..60))),
            ("n", self.number()),
            ("version", self.one(&VERSIONS).into()),
            ("beta", self.0.bool().into()),
            ("roles", list(roles)),
            ("counts", list(counts)),
            ("pick", self.one(&["a", "b", "true", "zzz", ""]).into()),
            ("user", json!({ "name": user, "city": { "name": self.text() } })),
        ];
        for (name, value) in fields {
            if self.chance(90) {
                let value = if name == "targetingKey" { value } else { self.or_odd(value) };
                context.insert(name.to_owned(), value);
            }
        }
        Value::Object(context)
    }
}
