//! Compiles the files of `proto/` to their descriptors, which gRPC reflection serves, without a system `protoc`; and tells
//! the linker what makes the binary smaller.

use std::path::Path;

const FILES: [&str; 7] = [
    "flagd/evaluation/v1/evaluation.proto",
    "flagd/evaluation/v2/evaluation.proto",
    "flagd/sync/v1/sync.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
    "schema/v1/schema.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(FILES)?;
    let out = told("OUT_DIR").ok_or("cargo did not tell where to write")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // Half a megabyte of relocations in 10 KB (DT_RELR). The musl that comes with Rust reads them; a glibc before 2.36 would not
    // start. zig refuses what it does not know.
    let by_zig = told("RUSTC_LINKER").is_some_and(|linker| linker.contains("zig"));
    if told("CARGO_CFG_TARGET_ENV").as_deref() == Some("musl") && !by_zig {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how cargo tells a build script anything")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
