"""What is known against releases of LiteLLM: malicious ones are refused, vulnerable ones need a confirmation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_version


@dataclass(frozen=True, slots=True)
class Advisories:
    """*malicious*: version → what it does; *vulnerable*: (versions, what and where to read of it)."""

    malicious: dict[str, str]
    vulnerable: tuple[tuple[SpecifierSet, str], ...]

    def denied(self, version: str) -> str | None:
        """Say why *version* must not be installed, however it is spelled and whoever built it (`+local`)."""
        return self.malicious.get(canonicalize_version(version.partition("+")[0]))

    def known(self, version: str) -> list[str]:
        """List the advisories that name *version*."""
        return [about for versions, about in self.vulnerable if versions.contains(version, prereleases=True)]


def advisories(denied: Iterable[str] = ()) -> Advisories:
    """Read what the package ships; *denied* are the operator's own."""
    shipped: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        (files("ccproxy_supervisor") / "data/litellm/advisories.yaml").read_text()
    )
    own = {canonicalize_version(version): "upgrade.denied names it" for version in denied}
    known = {canonicalize_version(each["version"]): f"{each['about']} ({each['source']})" for each in shipped["denied"]}
    vulnerable = tuple(
        (SpecifierSet(each["versions"]), f"{each['about']}, {each['id']}") for each in shipped["vulnerable"]
    )
    return Advisories(own | known, vulnerable)
