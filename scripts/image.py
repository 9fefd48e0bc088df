#!/usr/bin/env python3
"""The container image as an archive, without a container engine: one layer around one static binary.

    scripts/image.py --binary target/x86_64-unknown-linux-musl/dist/tidegate --output target/image

writes below the output directory

    tidegate-VERSION-ARCH.tar            an OCI image layout (image-spec 1.1), which `docker load` reads too
    tidegate-VERSION-ARCH.cdx.json       the bill of materials, which is in the image as /sbom.cdx.json

The same binary and lock file give the same bytes: no clock (SOURCE_DATE_EPOCH, or 1970), no user, no order of a directory.
Python's standard library is all it needs.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import tomllib
from pathlib import Path

import image_sbom

ROOT = Path(__file__).resolve().parent.parent
# What an image calls an architecture (GOARCH), by the name that Rust's targets begin with, and ELF's number of it.
ARCHITECTURES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}
# "nonroot" in the images that many clusters run.
USER = 65532
PT_INTERP = 3
# Bytes of an ELF header, and of an entry of its program headers, in 64-bit files.
HEADER, ENTRY = 64, 56
# In seconds: what a date of four digits and a header of tar can say.
LATEST = 8**11 - 1
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def fail(text):
    raise SystemExit(f"image: {text}")


def check_binary(data, path, arch):
    """Refuses what an empty image could not run: another machine's code, or code that asks for a loader."""
    if data[:6] != b"\x7fELF\x02\x01":
        fail(f"{path} is not a 64-bit little-endian ELF file; name the binary that `make image` builds")
    cut_off = f"{path} is cut off: there is less than its ELF header tells of; build or copy it again"
    if len(data) < HEADER:
        fail(cut_off)
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine != ARCHITECTURES[arch][1]:
        fail(f"{path} is built for another machine (ELF {machine}) than --arch {arch}")
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    if count == 0 or size < ENTRY or table + size * count > len(data):
        fail(cut_off)
    for at in range(table, table + size * count, size):
        begin, length = struct.unpack_from("<Q", data, at + 8)[0], struct.unpack_from("<Q", data, at + 32)[0]
        if begin + length > len(data):
            fail(cut_off)
        if struct.unpack_from("<I", data, at)[0] == PT_INTERP:
            fail(f"{path} asks for a dynamic loader; build it for {ARCHITECTURES[arch][0]}-unknown-linux-musl")


def tar(entries, mtime):
    """An uncompressed archive of (path, content or None for a directory, mode, owner), in the given order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content, mode, owner in entries:
            info = tarfile.TarInfo(path)
            info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, mtime
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layer(binary, sbom, mtime):
    """The root file system. The process may write two directories only, and neither its binary nor the list of its parts."""
    return tar(
        [
            ("run", None, 0o755, 0),
            ("run/tidegate", None, 0o755, USER),
            ("sbom.cdx.json", sbom, 0o444, 0),
            ("tidegate", binary, 0o555, 0),
            ("var", None, 0o755, 0),
            ("var/lib", None, 0o755, 0),
            ("var/lib/tidegate", None, 0o755, USER),
        ],
        mtime,
    )


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(kind, data, **more):
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data), **more}


def config(package, arch, created, diff):
    """The image's configuration: what the Dockerfile says in its last lines."""
    return {
        "created": created,
        "architecture": arch,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"8080/tcp": {}, "8014/tcp": {}},
            "Entrypoint": ["/tidegate"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": package["name"],
                "org.opencontainers.image.description": package["description"],
                "org.opencontainers.image.version": package["version"],
                "org.opencontainers.image.licenses": package["license"],
                "org.opencontainers.image.source": package["repository"],
                "org.opencontainers.image.created": created,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(diff).hexdigest()}"]},
        "history": [{"created": created, "created_by": "scripts/image.py", "comment": "one static binary"}],
    }


def archive(package, arch, name, diff, epoch):
    """The whole archive, and the size of its layer."""
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs = {}

    def blob(kind, data, **more):
        found = descriptor(kind, data, **more)
        blobs["blobs/" + found["digest"].replace(":", "/")] = data
        return found

    packed = gzip.compress(diff, 9, mtime=0)
    settings = blob(CONFIG, compact(config(package, arch, created, diff)))
    content = blob(LAYER, packed)
    manifest = blob(
        MANIFEST,
        compact({"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": [content]}),
        platform={"architecture": arch, "os": "linux"},
        # The first is what skopeo and podman call it by, the second containerd.
        annotations={"org.opencontainers.image.ref.name": package["version"], "io.containerd.image.name": name},
    )
    path = lambda found: "blobs/" + found["digest"].replace(":", "/")  # noqa: E731
    files = {
        "oci-layout": compact({"imageLayoutVersion": "1.0.0"}),
        "index.json": compact(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}
        ),
        # What `docker load` looks for where it does not know the layout; it names the same blobs.
        "manifest.json": compact([{"Config": path(settings), "RepoTags": [name], "Layers": [path(content)]}]),
        **blobs,
    }
    entries = [("blobs", None, 0o755, 0), ("blobs/sha256", None, 0o755, 0)]
    entries += [(path, data, 0o644, 0) for path, data in files.items()]
    return tar(sorted(entries), epoch), len(packed)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--binary", type=Path, required=True, help="a static tidegate")
    options.add_argument("--output", type=Path, default=ROOT / "target/image", help="a directory")
    options.add_argument("--arch", choices=ARCHITECTURES, default="amd64")
    options.add_argument("--name", help="what it is called once loaded (tidegate:VERSION)")
    chosen = options.parse_args()
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    try:
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
        if not 0 <= epoch <= LATEST:
            raise ValueError
        binary = chosen.binary.read_bytes()
    except ValueError:
        fail(f"SOURCE_DATE_EPOCH is not a number of seconds since 1970, from 0 to {LATEST}; correct it, or unset it for 0")
    except OSError as error:
        fail(f"{chosen.binary}: {error.strerror}; `make image` builds it")
    check_binary(binary, chosen.binary, chosen.arch)

    target = f"{ARCHITECTURES[chosen.arch][0]}-unknown-linux-musl"
    sbom = image_sbom.sbom(target, hashlib.sha256(binary).hexdigest()).encode()
    name = chosen.name or f"tidegate:{package['version']}"
    diff = layer(binary, sbom, epoch)
    data, packed = archive(package, chosen.arch, name, diff, epoch)
    stem = f"tidegate-{package['version']}-{chosen.arch}"
    try:
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / f"{stem}.cdx.json").write_bytes(sbom)
        (chosen.output / f"{stem}.tar").write_bytes(data)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; name by --output a directory that can be written")
    mib = lambda size: f"{size / 1048576:.1f} MiB"  # noqa: E731
    print(f"{chosen.output / stem}.tar: {name} for linux/{chosen.arch}")
    print(f"  {mib(packed)} to pull, {mib(len(diff))} unpacked, the binary {mib(len(binary))}, {len(json.loads(sbom)['components'])} crates beside it")
    print(f"  sha256:{hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
