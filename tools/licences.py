"""Lists the packages installed with ddsp, with versions and licences, and writes an SBOM.

    python tools/licences.py [--out build/licences] [--audit]

Follows the dependencies that pyproject.toml names, and those of its extras that are installed, through the metadata of
the installed packages; nothing is downloaded. Development tools are not part of it. Writes

    sbom.json      CycloneDX 1.6: name, version, licence and package URL of each, and who needs whom
    licences.md    the same as a table, with the libraries in C that wheels carry inside, and the networks and
                   instruments that come with the program

`--audit` asks pip-audit about known vulnerabilities, where it is installed; it needs the network, and fails without.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = "ddsp-cli"

#: Libraries in C that wheels carry inside, with what their metadata does not say: package → (library, licence).
BUNDLED = {
    "soundfile": [("libsndfile (with FLAC, Ogg, Vorbis, Opus, mpg123, LAME)", "LGPL-2.1-or-later and others")],
    "soxr": [("libsoxr", "LGPL-2.1-or-later")],
    "numpy": [("OpenBLAS", "BSD-3-Clause"), ("libgfortran, libquadmath", "GPL-3.0-or-later WITH GCC-exception-3.1")],
    "scipy": [("OpenBLAS", "BSD-3-Clause"), ("libgfortran, libquadmath", "GPL-3.0-or-later WITH GCC-exception-3.1")],
    "llvmlite": [("LLVM", "Apache-2.0 WITH LLVM-exception")],
    "h5py": [("HDF5", "BSD-3-Clause")],
    "matplotlib": [("FreeType", "FTL"), ("DejaVu fonts", "Bitstream-Vera")],
    "miniaudio": [("miniaudio, dr_libs, stb_vorbis", "Unlicense OR MIT-0")],
    "pyyaml": [("libyaml", "MIT")],
    "onnxruntime": [
        ("Eigen", "MPL-2.0"),
        ("protobuf, abseil, RE2, mimalloc and others", "BSD-3-Clause, Apache-2.0, MIT"),
    ],
    "tensorflow": [
        ("Eigen", "MPL-2.0"),
        ("oneDNN, XLA, abseil, BoringSSL and others", "Apache-2.0, BSD-3-Clause, ISC"),
    ],
    "swift-f0": [("the network of SwiftF0", "MIT")],
    "av": [("FFmpeg with its codecs", "LGPL-2.1-or-later and others")],
    "python-rtmidi": [("RtMidi", "MIT")],
    ROOT: [("the network of Basic Pitch (Spotify)", "Apache-2.0"), ("the network of SwiftF0, for one frame", "MIT")],
}

HERE = Path(__file__).resolve().parents[1]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(name: str) -> str:
    """A distribution's name as package indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict[str, list[str]]:
    """The requirements of the program by extra, "" for those that are always installed; not those of development.

    Read from pyproject.toml: the metadata of an editable installation is as old as the installation.
    """
    about = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: words for name, words in about["optional-dependencies"].items() if name != "dev"}
    return {"": about["dependencies"], **extras}


def needs(requirements: Iterable[str]) -> list[str]:
    """Names of the installed distributions in requirements; extras are left out, as are those for other platforms."""
    found = []
    for requirement in requirements:
        _, _, marker = requirement.partition(";")
        match = _NAME.match(requirement.strip())
        if match is None or "extra" in marker:
            continue
        try:
            metadata.distribution(match[0])
        except metadata.PackageNotFoundError:  # for another platform or another version of Python
            continue
        found.append(canonical(match[0]))
    return sorted(set(found))


def closure() -> tuple[dict[str, list[str]], set[str]]:
    """Returns distribution → its requirements, recursively from the program; and those that only extras need."""

    def below(names: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in found:
                found[name] = needs(metadata.distribution(name).requires or ())
                pending += found[name]
        return found

    asked = project()
    direct = needs(asked[""])
    always = below(direct)
    optional = below(needs(word for extra, words in asked.items() if extra for word in words))
    found = {ROOT: direct} | always | optional
    return dict(sorted(found.items())), set(optional) - set(always)


def instruments() -> list[tuple[str, str]]:
    """Name and licence of each instrument that comes with the program."""
    found = []
    for card in sorted((HERE / "models").glob("*/model.yaml")):
        terms = re.search(r"^licence: *(.+)$", card.read_text(encoding="utf-8"), re.MULTILINE)
        found.append((card.parent.name, terms[1].strip() if terms else "unknown"))
    return found


def licence(distribution: metadata.Distribution) -> str:
    """The licence that the metadata names: an SPDX expression, else a trove classifier, else the first line of text."""
    about = distribution.metadata
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    classifiers = [entry.split("::")[-1].strip() for entry in about.get_all("Classifier") or () if "License" in entry]
    named = [entry for entry in classifiers if entry != "OSI Approved"]
    if named:
        return ", ".join(sorted(set(named)))
    text = str(about.get("License") or "").strip()
    return text.splitlines()[0][:80] if text else "unknown"


def component(name: str, optional: bool = False) -> dict[str, Any]:
    """One entry of the SBOM."""
    distribution = metadata.distribution(name)
    about = distribution.metadata
    expression = about.get("License-Expression")
    named = [{"expression": str(expression)}] if expression else [{"license": {"name": licence(distribution)}}]
    return {
        "type": "library",
        "scope": "optional" if optional else "required",
        "bom-ref": f"pkg:pypi/{name}@{distribution.version}",
        "name": name,
        "version": distribution.version,
        "purl": f"pkg:pypi/{name}@{distribution.version}",
        "description": str(about.get("Summary") or ""),
        "licenses": named,
        "components": [
            {"type": "library", "name": library, "licenses": [{"license": {"name": terms}}]}
            for library, terms in BUNDLED.get(name, ())
        ],
    }


def sbom(found: dict[str, list[str]], optional: Collection[str]) -> dict[str, Any]:
    """The whole as CycloneDX 1.6."""
    references = {name: f"pkg:pypi/{name}@{metadata.version(name)}" for name in found}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
            "component": component(ROOT) | {"type": "application"},
        },
        "components": [
            *(component(name, name in optional) for name in found if name != ROOT),
            *(
                {
                    "type": "machine-learning-model",
                    "bom-ref": f"instrument:{name}",
                    "name": name,
                    "licenses": [{"license": {"name": terms}}],
                }
                for name, terms in instruments()
            ),
        ],
        "dependencies": [
            {"ref": references[name], "dependsOn": [references[other] for other in below]}
            for name, below in found.items()
        ],
    }


def table(found: dict[str, list[str]], optional: Collection[str]) -> str:
    """The licences in Markdown."""
    lines = ["# Licences of what is installed with ddsp", ""]
    for title, names in (("", [name for name in found if name not in optional]), ("## Only for extras", optional)):
        lines += [title, "", "| package | version | licence |", "|---|---|---|"] if title else [
            "| package | version | licence |", "|---|---|---|"]  # fmt: skip
        lines += [
            f"| {name} | {metadata.version(name)} | {licence(metadata.distribution(name))} |" for name in sorted(names)
        ]
        lines += [""]
    lines += ["## Instruments", "", "Their model.yaml names the recordings and who made them.", ""]
    lines += ["| instrument | licence |", "|---|---|", *(f"| {name} | {terms} |" for name, terms in instruments())]
    lines += [
        "",
        "## Libraries and networks inside these packages",
        "",
        "| package | library | licence |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {library} | {terms} |" for name in found for library, terms in BUNDLED.get(name, ())]
    lines += [
        "",
        "libsndfile and libsoxr are under the LGPL. Both are shared libraries in files of their own inside the "
        "packages soundfile and soxr, are loaded at run time, and can be replaced by another build of it.",
        "",
    ]
    return "\n".join(lines)


def audit(found: dict[str, list[str]]) -> int:
    """Asks pip-audit about these versions; its exit status, or 0 with a remark where it is not installed."""
    try:
        metadata.distribution("pip-audit")
    except metadata.PackageNotFoundError:
        print("known vulnerabilities: not checked; pip-audit is not installed, and needs the network")
        return 0
    pinned = "\n".join(f"{name}=={metadata.version(name)}" for name in found if name != ROOT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(pinned, encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--requirement", str(path)]
        return subprocess.run(command, check=False).returncode


def main() -> None:
    """Writes both files, and says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/licences"))
    parser.add_argument("--audit", action="store_true")
    given = parser.parse_args()
    found, optional = closure()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "sbom.json").write_text(
        json.dumps(sbom(found, optional), indent=1, ensure_ascii=False), encoding="utf-8"
    )
    (given.out / "licences.md").write_text(table(found, optional), encoding="utf-8")
    print(f"{len(found)} packages: {given.out / 'sbom.json'}, {given.out / 'licences.md'}")
    if given.audit:
        sys.exit(audit(found))


if __name__ == "__main__":
    main()
