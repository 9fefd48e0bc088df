//! Documents before and after a change, and the laws.

use super::*;
use serde_json::json;

#[test]
fn a_value_knows_where_it_stands() {
    let text = "# head\na: &x !!map\n  b: 'c'   # tail\n  d: |+\n    l1\n\n  e:\n  f: >-\n    g\n    h\n# between\nlist:\n- one\n-\n- {k: [1, 2 ]}\n- - in\n";
    let read = tree::read(text).expect("it is YAML");
    let mut told = String::new();
    tell(text, &read[0].root, &mut told);
    assert_eq!(
        told,
        r#""" | "a: &x !!map\n  b: 'c'   # tail\n  d: |+\n    l1\n\n  e:\n  f: >-\n    g\n    h\n# between\nlist:\n- one\n-\n- {k: [1, 2 ]}\n- - in" | "map Block(0)"
"&x !!map\n  " | "b: 'c'   # tail\n  d: |+\n    l1\n\n  e:\n  f: >-\n    g\n    h" | "map Block(2)"
"" | "'c'" | "Scalar"
"" | "|+\n    l1\n" | "Scalar"
"" | "" | "Scalar"
"" | ">-\n    g\n    h" | "Scalar"
"" | "- one\n-\n- {k: [1, 2 ]}\n- - in" | "list Block(0)"
"" | "one" | "Scalar"
"" | "" | "Scalar"
"" | "{k: [1, 2 ]}" | "map Flow"
"" | "[1, 2 ]" | "list Flow"
"" | "1" | "Scalar"
"" | "2" | "Scalar"
"" | "- in" | "list Block(2)"
"" | "in" | "Scalar"
"#
    );
}

fn tell(text: &str, node: &tree::Node, out: &mut String) {
    use std::fmt::Write as _;
    _ = writeln!(out, "{:?} | {:?} | {:?}", &text[node.start..node.content], &text[node.content..node.end], kind(node));
    match &node.kind {
        tree::Kind::Map(_, entries) => entries.iter().for_each(|entry| tell(text, &entry.value, out)),
        tree::Kind::List(_, items) => items.iter().for_each(|item| tell(text, &item.value, out)),
        _ => {}
    }
}

fn kind(node: &tree::Node) -> String {
    match &node.kind {
        tree::Kind::Map(layout, _) => format!("map {layout:?}"),
        tree::Kind::List(layout, _) => format!("list {layout:?}"),
        other => format!("{other:?}"),
    }
}

/// `change` applied to what `text` says makes `expected` of it, without writing a document anew.
fn check(text: &str, change: impl Fn(&mut Value), expected: &str) {
    let stream = Stream::parse(text).expect("it is YAML");
    let wanted: Vec<Option<Value>> = (stream.documents().iter())
        .map(|document| {
            let mut value = document.value().clone();
            change(&mut value);
            Some(value)
        })
        .collect();
    let rendered = stream.render(&wanted);
    assert_eq!(rendered.text, expected, "of\n{text}");
    assert_eq!(rendered.anew, Vec::<usize>::new(), "of\n{text}");
}

#[test]
fn what_is_put_in_brackets_is_written_for_every_reader() {
    check(
        "list: [ {name: app, url: /ready} ]\n",
        |value| {
            let added = json!({ "name": "x", "args": ["run"], "url": "http://127.0.0.1/ready?full", "at": "{a}" });
            value["list"].as_array_mut().expect("there, as written above").push(added);
        },
        "list: [ {name: app, url: /ready}, {name: x, args: [run], at: \"{a}\", url: \"http://127.0.0.1/ready?full\"} ]\n",
    );
    check(
        "list: [{\"name\":\"app\"}]\n",
        |value| value["list"].as_array_mut().expect("there, as written above").push(json!({ "name": "x" })),
        "list: [{\"name\":\"app\"}, {\"name\":\"x\"}]\n",
    );
}

#[test]
fn what_did_not_change_keeps_its_bytes() {
    let text = "# head\napiVersion: apps/v1 # why\nkind: 'Deployment'\nspec:\n    template:\n        spec:\n            containers:\n            # the app\n            -   name: app\n                image: \"a:1\"   # pinned\n                # told by the image\n                ports: [ {containerPort: 3000} ]\n                readinessProbe:\n                    httpGet: { path: /ready, port: 3000 }\n                    # often\n                    periodSeconds: 5\n            - name: other\n            # the end\n";
    check(
        text,
        |value| {
            let spec = &mut value["spec"]["template"]["spec"];
            spec["initContainers"] = json!([{"name": "tidegate", "image": "t:1", "args": ["run"]}]);
            let app = spec["containers"][0].as_object_mut().expect("a container");
            app.remove("readinessProbe");
            app.insert("lifecycle".into(), json!({"preStop": {"httpGet": {"path": "/drain", "port": 8014}}}));
            spec["containers"][0]["ports"][0]["name"] = "x".into();
        },
        "# head\napiVersion: apps/v1 # why\nkind: 'Deployment'\nspec:\n    template:\n        spec:\n            initContainers:\n            - name: tidegate\n              image: t:1\n              args:\n              - run\n            containers:\n            # the app\n            -   name: app\n                image: \"a:1\"   # pinned\n                # told by the image\n                ports: [ {name: x, containerPort: 3000} ]\n                lifecycle:\n                    preStop:\n                        httpGet:\n                            path: /drain\n                            port: 8014\n            - name: other\n            # the end\n",
    );
}

#[test]
fn each_way_of_writing_is_edited_in_its_own_way() {
    let set = |value: &mut Value| {
        value["a"] = json!(2);
        value["new"] = json!({"x": "yes"});
    };
    check("a: 1\n", set, "a: 2\nnew:\n  x: \"yes\"\n");
    check("a: 1", set, "a: 2\nnew:\n  x: \"yes\"");
    check("a: 1\r\nb: 2\r\n", set, "a: 2\r\nb: 2\r\nnew:\r\n  x: \"yes\"\r\n");
    check("\u{feff}a: 1\n", set, "\u{feff}a: 2\nnew:\n  x: \"yes\"\n");
    check("--- # c\na: 1\n...\n# after\n", set, "--- # c\na: 2\nnew:\n  x: \"yes\"\n...\n# after\n");
    check("{a: 1}\n", set, "{a: 2, new: {x: \"yes\"}}\n");
    check("{\"a\":1}", set, "{\"a\":2, \"new\":{\"x\":\"yes\"}}");
    check(
        "{\n  \"a\": 1,\n  \"b\": []\n}\n",
        set,
        "{\n  \"a\": 2,\n  \"b\": [],\n  \"new\": {\n    \"x\": \"yes\"\n  }\n}\n",
    );
    check("\"a\" : 1 # c\n'b': 2\n", set, "\"a\" : 2 # c\n'b': 2\nnew:\n  x: \"yes\"\n");
    check(
        "a:\n  # empty\n\nb: |\n  text\n\n\n# end",
        set,
        "a: 2\n  # empty\n\nb: |\n  text\nnew:\n  x: \"yes\"\n\n\n# end",
    );
    check("b: 1\na: # c\n  d: 1\n", set, "b: 1\na: 2\nnew:\n  x: \"yes\"\n");
    check("a: >-\n  x\n  y\nb: |+\n  x\n\n", set, "a: 2\nb: |+\n  x\n\nnew:\n  x: \"yes\"\n");
}

#[test]
fn lists_grow_and_shrink_in_place() {
    let push = |value: &mut Value| value["l"].as_array_mut().expect("a list").push(json!({"name": "o", "v": [1]}));
    check("l: []  # c\n", push, "l:  # c\n  - name: o\n    v:\n      - 1\n");
    check("l:\n- a\nm: 1\n", push, "l:\n- a\n- name: o\n  v:\n  - 1\nm: 1\n");
    check("l:\n  - a # c\n  # of a?\n", push, "l:\n  - a # c\n  - name: o\n    v:\n      - 1\n  # of a?\n");
    check("l: [a, b]\n", push, "l: [a, b, {name: o, v: [1]}]\n");
    let first = |value: &mut Value| value["l"].as_array_mut().expect("a list").insert(0, json!({"name": "o"}));
    check("l:\n  # of a\n  - name: a\n  - name: b\n", first, "l:\n  - name: o\n  # of a\n  - name: a\n  - name: b\n");
    check("l: [a]\n", first, "l: [{name: o}, a]\n");
    let drop = |value: &mut Value| _ = value["l"].as_array_mut().expect("a list").remove(0);
    check("l:\n  # of a\n  - a: 1\n    # of a too\n  - b\n", drop, "l:\n  # of a\n  - b\n");
    check("l: [ a, b , c ]\n", drop, "l: [ b , c ]\n");
    check("l:\n- a\n", drop, "l: []\n");
    check("l: [a]\n", drop, "l: []\n");
    let middle = |value: &mut Value| _ = value["l"].as_array_mut().expect("a list").remove(1);
    check("l: [ a, b , c ]\n", middle, "l: [ a , c ]\n");
    check("l: [ a, b ]\n", middle, "l: [ a ]\n");
    check("l:\n- - a\n  - b\n- c\n", drop, "l:\n- c\n");
}

#[test]
fn keys_go_and_leave_their_neighbours() {
    let remove = |key: &'static str| move |value: &mut Value| _ = value.as_object_mut().expect("a map").remove(key);
    check("a: 1\n# of b\nb:\n  c: 1\n  # of c\nd: 2\n", remove("b"), "a: 1\n# of b\nd: 2\n");
    check("a: 1\nb: 2\n", remove("a"), "b: 2\n");
    check("a: 1\n", remove("a"), "{}\n");
    check("{a: 1, b: 2, c: 3}\n", remove("a"), "{b: 2, c: 3}\n");
    check("{a: 1, b: 2, c: 3}\n", remove("b"), "{a: 1, c: 3}\n");
    check("{a: 1, b: 2, c: 3}\n", remove("c"), "{a: 1, b: 2}\n");
    let inner = |value: &mut Value| _ = value["l"][0].as_object_mut().expect("a map").remove("name");
    check("l:\n  - name: a\n    # of b\n    b: 1\n", inner, "l:\n  - b: 1\n");
    check("l:\n  - name: a\n", inner, "l:\n  - {}\n");
}

#[test]
fn aliases_are_written_out_where_they_no_longer_say_the_same() {
    let text = "base: &b\n  x: 1\nuse: *b\nmerged:\n  <<: *b\n  o: 2\n";
    check(
        text,
        |value| value["use"]["z"] = json!(3),
        "base: &b\n  x: 1\nuse:\n  x: 1\n  z: 3\nmerged:\n  <<: *b\n  o: 2\n",
    );
    check(
        text,
        |value| value["base"]["x"] = json!(9),
        "base: &b\n  x: 9\nuse:\n  x: 1\nmerged:\n  <<: *b\n  o: 2\n  x: 1\n",
    );
    check(
        text,
        |value| value["merged"]["z"] = json!(9),
        "base: &b\n  x: 1\nuse: *b\nmerged:\n  <<: *b\n  o: 2\n  z: 9\n",
    );
    // Nothing smaller would do: the merged map loses a key.
    let stream = Stream::parse(text).expect("it is YAML");
    let mut value = stream.documents()[0].value().clone();
    _ = value["merged"].as_object_mut().expect("a map").remove("x");
    let rendered = stream.render(&[Some(value)]);
    assert_eq!(rendered.text, "base: &b\n  x: 1\nuse: *b\nmerged:\n  o: 2\n");
}

#[test]
fn documents_that_stay_keep_their_bytes() {
    let text = "# c\n---\na: 1\n--- \n# nothing\n---\n'a':   {b:  1}\n...\n";
    let stream = Stream::parse(text).expect("it is YAML");
    let values: Vec<&Value> = stream.documents().iter().map(Document::value).collect();
    assert_eq!(values, [&json!({"a": 1}), &json!(null), &json!({"a": {"b": 1}})]);
    let rendered = stream.render(&[Some(json!({"a": 2})), None, Some(json!({"a": {"b": 1}}))]);
    assert_eq!(rendered.text, "# c\n---\na: 2\n--- \n# nothing\n---\n'a':   {b:  1}\n...\n");
    assert_eq!(stream.render(&[]).text, text);
    assert_eq!(stream.documents()[2].line(), 7);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    let check = |text: &str, place: (usize, usize), part: &str| {
        let error = Stream::parse(text).expect_err(text);
        assert_eq!((error.line, error.column), place, "{error} of {text:?}");
        assert!(error.text.contains(part), "{error} of {text:?}");
    };
    check("a: 1\nb: 2\na: 3\n", (3, 1), "the key a comes twice");
    check("a:\n\t- b\n", (2, 2), "tab");
    check("a: [1, 2\nb: 3\n", (2, 2), "");
    check("a: 'x\n", (1, 4), "");
    check("a: *b\n", (1, 4), "");
    check("a: &b [*b]\n", (1, 8), "alias within");
    check("? [a]\n: b\n", (1, 3), "a key must be a text");
    check("a: .inf\n", (1, 4), "finite");
    check("<<: 1\n", (1, 5), "<<");
    check("a: {{ .Values.x }}\n", (1, 5), "a template");
    check("{{ if .x }}\na: 1\n{{ end }}\n", (1, 2), "a template");
    check("a: 1\n  b: 2\n", (2, 4), "");
}

#[test]
fn bombs_of_aliases_and_depth_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(Stream::parse(&bomb).expect_err("a bomb").text.contains("aliases written out"));
    assert!(Stream::parse(&"[".repeat(100_000)).is_err());
    assert!(Stream::parse(&"- ".repeat(100_000)).is_err());
    assert!(Stream::parse(&"---\n".repeat(20_000)).is_err());
}

#[test]
fn the_deepest_that_is_read_is_edited_too() {
    let text = format!("{}{}{}\n", "- ".repeat(99), "[".repeat(99), "]".repeat(99));
    let stream = Stream::parse(&text).expect("deep, and allowed");
    let wanted = json!([stream.documents()[0].value()[0].clone(), {"a": 1}]);
    let rendered = stream.render(&[Some(wanted.clone())]);
    assert_eq!(rendered.text, format!("{text}- a: 1\n"));
}
