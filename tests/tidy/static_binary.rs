//! The static binary: linked against musl it asks for no loader and no library, so it runs in an empty image.

use std::env::consts::ARCH;
use std::path::PathBuf;
use std::process::Command;

use crate::root;

/// ELF program headers (System V ABI, chapter 5): the path of a loader; the dynamic section.
const PT_INTERP: u32 = 3;
const PT_DYNAMIC: u32 = 2;
/// Tags of the dynamic section: its end; a shared library that must be loaded.
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// Builds the binary for musl, which is quick when `make test` has built it before, and says where it is.
#[expect(clippy::disallowed_methods, reason = "only the names are read, to keep them from cargo")]
fn build() -> PathBuf {
    let target = format!("{ARCH}-unknown-linux-musl");
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells the tests of this package; ring's build script would take it for a change and compile again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own))) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["build", "--locked", "--bin", "tidegate", "--message-format=json", "--target", &target])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo build --target {target} failed; does it need: apt-get install musl-tools && rustup target add {target} ?\n{}",
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo tells the path of what it built")
}

/// What a 64-bit little-endian ELF file asks the system to load: its loader and libraries, as text for people.
fn asks_for(elf: &[u8]) -> Result<Vec<String>, &'static str> {
    let bytes = |at: u64, length: usize| {
        let at = usize::try_from(at).map_err(|_| "an offset beyond memory")?;
        elf.get(at..).and_then(|rest| rest.get(..length)).ok_or("a header points beyond the file")
    };
    let half = |at| bytes(at, 2).map(|found| u64::from(found[0]) | u64::from(found[1]) << 8);
    let word = |at| Ok::<u32, &'static str>((half(at)? | half(at + 2)? << 16) as u32);
    let long = |at| Ok::<u64, &'static str>(u64::from(word(at)?) | u64::from(word(at + 4)?) << 32);

    if bytes(0, 6)? != b"\x7fELF\x02\x01" {
        return Err("not a 64-bit little-endian ELF file");
    }
    let (table, size, count) = (long(32)?, half(54)?, half(56)?);
    let mut found = Vec::new();
    for header in (0..count).map(|index| table + index * size) {
        let (offset, length) = (long(header + 8)?, long(header + 32)?);
        match word(header)? {
            PT_INTERP => found.push("a program interpreter".to_owned()),
            PT_DYNAMIC => {
                for entry in (offset..offset + length).step_by(16) {
                    match long(entry)? {
                        DT_NULL => break,
                        DT_NEEDED => found.push("a shared library".to_owned()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[test]
fn the_musl_binary_needs_nothing_of_the_system() {
    let binary = build();
    let elf = std::fs::read(&binary).unwrap();
    assert_eq!(asks_for(&elf), Ok(Vec::new()), "{} is not static", binary.display());
    let output = Command::new(&binary).arg("--version").env_clear().output().expect("the static binary starts");
    assert!(output.status.success(), "--version: {output:?}");
}

#[test]
fn a_dynamic_binary_is_seen_as_one() {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let asked = asks_for(&own).unwrap();
    assert!(asked.iter().any(|what| what.contains("interpreter")), "{asked:?}");
    assert!(asked.iter().any(|what| what.contains("library")), "{asked:?}");
    assert!(asks_for(b"#!/bin/sh\n").is_err());
    assert!(asks_for(&own[..100]).is_err(), "cut off after its header");
}
