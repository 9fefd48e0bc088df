//! `edit`: on a terminal, with editors that are shell scripts.

use super::{Desk, switch};

fn desk() -> Desk {
    let desk = Desk::new();
    desk.ok(&["set", "--create", "search", &switch("off")]);
    desk.ok(&["set", "banner", &switch("off")]);
    desk
}

#[test]
fn an_edited_flag_is_written_and_one_left_as_it_is_is_not() {
    let desk = desk();
    let editor = desk.editor("editor", r#"cp "$1" seen; sed -i 's/defaultVariant: "off"/defaultVariant: "on"/' "$1""#);
    let said = desk.at_terminal(&["edit", "search", "--note", "by hand"], &[("EDITOR", &editor)], &[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.ends_with("0 added, 1 changed, 0 removed in scope orders, revision 3\n"), "{}", said.out);
    let seen = std::fs::read_to_string(desk.path("seen")).unwrap();
    assert!(seen.starts_with("# flag search of scope orders, revision 2."), "{seen}");
    assert_eq!(desk.json(&["get", "search"])["defaultVariant"], "on");
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["note"], "by hand");
    let said = desk.at_terminal(&["edit", "search"], &[("VISUAL", "true"), ("EDITOR", "false")], &[]);
    assert_eq!(said.code, 0);
    assert_eq!(said.out, "nothing was changed; scope orders is at revision 3\n");
    // White space and comments are no change of the flag.
    let said =
        desk.at_terminal(&["edit", "search", "--output", "json"], &[("EDITOR", "sh -c 'echo >> \"$1\"' sh")], &[]);
    assert_eq!(said.json()["changed"], false, "{}", said.out);
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["rev"], 3);
    assert!(desk.drafts().is_empty());
}

#[test]
fn a_whole_scope_is_edited_in_one_change() {
    let desk = desk();
    let lines = r#"sed -i -e '/^  banner:/,/^  search:/{/^  search:/!d}' -e 's/"off"$/"on"/' "$1"; printf '  new:\n    state: DISABLED\n    variants: {a: 1}\n' >> "$1""#;
    let editor = desk.editor("editor", lines);
    // What goes away is asked for.
    let said = desk.at_terminal(&["edit", "--editor", &editor], &[], &[("1 to remove in scope orders? [y/N]", "n\n")]);
    assert!(said.code == 1 && said.out.contains("nothing was written"), "{}", said.out);
    assert_eq!((desk.json(&["log", "-n", "1"])[0]["rev"].as_u64(), desk.drafts().len()), (Some(2), 1));
    let said = desk.at_terminal(&["edit", "--editor", &editor], &[], &[("[y/N]", "y\n")]);
    assert!(said.out.ends_with("1 added, 1 changed, 1 removed in scope orders, revision 3\n"), "{}", said.out);
    let said = desk.fails(&["edit"], 64);
    assert!(said.err.contains("an editor needs a terminal"), "{}", said.err);
    assert_eq!(desk.at_terminal(&["edit", "none"], &[], &[]).code, 1);
}

#[test]
fn what_does_not_validate_is_shown_and_offered_again() {
    let desk = desk();
    // First a state that is none and a variant that is none; the second time the state is put right, then the variant.
    let editor = desk.editor(
        "editor",
        r#"if [ -e again ]; then sed -i 's/state: ON/state: ENABLED/; s/"onn"/"on"/' "$1"; else
           sed -i 's/ENABLED/ON/; s/"off"$/"onn"/' "$1"; touch again; fi"#,
    );
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &editor)], &[("stops:", "\n")]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        said.out.contains(".yaml:2:1: error: state: must be \"ENABLED\" or \"DISABLED\", and is \"ON\""),
        "{}",
        said.out
    );
    assert!(said.out.contains(".yaml:6:1: error: defaultVariant: \"onn\" is none of the variants"), "{}", said.out);
    assert!(said.out.contains("Enter edits again, q and Enter stops:"), "{}", said.out);
    assert_eq!(desk.json(&["get", "search"])["defaultVariant"], "on");

    let broken = desk.editor("broken", r#"echo 'state: [' > "$1""#);
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &broken)], &[("stops:", "q\n")]);
    assert_eq!(said.code, 1, "{}", said.out);
    let drafts = desk.drafts();
    assert!(said.out.contains(&format!("what you wrote is in {}", drafts[0].display())), "{}", said.out);
    assert_eq!(std::fs::read_to_string(&drafts[0]).unwrap(), "state: [\n");
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["rev"], 3);
}

#[test]
fn a_conflict_shows_what_others_did_and_keeps_the_draft() {
    let desk = desk();
    let other =
        format!("'{}' --config '{}' flags", crate::support::sidecar::TIDEGATE, desk.path("tidegate.yaml").display());
    // Somebody switches the same flag off and on while it is edited: on top of theirs nothing is written.
    let editor =
        desk.editor("editor", &format!("{other} disable search --actor bob@ci; sed -i 's/\"off\"$/\"on\"/' \"$1\""));
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &editor)], &[]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("-state: ENABLED\n+state: DISABLED\n"), "{}", said.out);
    assert!(
        said.out.contains("lost a race: search changed meanwhile") && said.out.contains("by bob@ci"),
        "{}",
        said.out
    );
    let drafts = desk.drafts();
    assert!(said.out.contains(&drafts[0].display().to_string()), "{}", said.out);
    let found = desk.json(&["get", "search"]);
    assert_eq!((found["state"].as_str(), found["defaultVariant"].as_str()), (Some("DISABLED"), Some("off")));
    // The draft is of use: as a definition.
    desk.ok(&["set", "search", &format!("@{}", drafts[0].display())]);
    assert_eq!(desk.json(&["get", "search"])["defaultVariant"], "on");

    // Another flag is nobody's business.
    let editor = desk.editor("editor", &format!("{other} disable banner; sed -i 's/\"on\"$/\"off\"/' \"$1\""));
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &editor)], &[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert_eq!(desk.json(&["get", "banner"])["state"], "DISABLED");
    assert_eq!(desk.json(&["get", "search"])["defaultVariant"], "off");
}

#[test]
fn an_editor_or_a_disk_that_fails_loses_nothing() {
    let desk = desk();
    let editor = desk.editor("editor", "echo '# mine' >> \"$1\"; exit 3");
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &editor)], &[]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("ended with exit status: 3; nothing was written; what you wrote is in"), "{}", said.out);
    assert!(std::fs::read_to_string(&desk.drafts()[0]).unwrap().ends_with("# mine\n"));
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", "no-such-editor")], &[]);
    assert!(said.out.contains("VISUAL or EDITOR names another editor"), "{}", said.out);
    assert_eq!(desk.drafts().len(), 1, "nothing was typed, so nothing is kept");
    let said = desk.at_terminal(&["edit", "search"], &[("TMPDIR", "/nonexistent"), ("EDITOR", "true")], &[]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("/nonexistent/tidegate-search-") && said.out.contains("TMPDIR names another directory"),
        "{}",
        said.out
    );
    // ^C while the editor has the terminal is the editor's.
    let editor = desk.editor("editor", "trap 'touch interrupted' INT; kill -INT 0; sed -i 's/\"off\"$/\"on\"/' \"$1\"");
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &editor)], &[]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(desk.path("interrupted").exists());
    // At the question it is ours, and the draft stays.
    let broken = desk.editor("broken", "echo 'state: [' > \"$1\"");
    let said = desk.at_terminal(&["edit", "search"], &[("EDITOR", &broken)], &[("stops:", "\u{3}")]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("interrupted; nothing was written; what you wrote is in"), "{}", said.out);
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["rev"], 3);
}
