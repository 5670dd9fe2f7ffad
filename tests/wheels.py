"""Releases of LiteLLM that tests make: wheels, and what an installer makes of them."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

STUB = Path(__file__).parent / "stub"
SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def recorded(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}"


def files_of(version: str, more: dict[str, bytes], requires: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Everything in a package `litellm`: the stub application, *more*, and metadata with a true RECORD."""
    info = f"litellm-{version}.dist-info"
    files = {str(path.relative_to(STUB)): path.read_bytes() for path in sorted(STUB.rglob("*.py"))} | more
    needs = "".join(f'Requires-Dist: {name}; extra == "proxy"\n' for name in requires)
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: litellm\nVersion: {version}\nProvides-Extra: proxy\n{needs}".encode()
    )
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [recorded(path, data) for path, data in files.items()]
    return files | {f"{info}/RECORD": "\n".join((*rows, f"{info}/RECORD,,", "")).encode()}


def release(folder: Path, version: str, more: dict[str, bytes] | None = None, requires: tuple[str, ...] = ()) -> Path:
    """Make a wheel that pip takes."""
    path = folder / f"litellm-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files_of(version, more or {}, requires).items():
            archive.writestr(name, data)
    return path


def unpack(environment: Path, version: str, more: dict[str, bytes] | None = None) -> Path:
    """Put a release into *environment* as an installer would; returns its site-packages."""
    site = environment / SITE
    for name, data in files_of(version, more or {}).items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (environment / "bin").mkdir(exist_ok=True)
    return site
