"""What is known against releases of LiteLLM and of what comes with it: malicious ones are refused, vulnerable ones need a
confirmation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from ccproxy_supervisor.edge.home import canonical, denied, malicious, shipped


@dataclass(frozen=True, slots=True)
class Advisories:
    """*own* are the versions of LiteLLM that the operator denies; *vulnerable*: package, versions, what and where to read of it."""

    own: tuple[str, ...]
    vulnerable: tuple[tuple[str, SpecifierSet, str], ...]

    def denied(self, packages: Mapping[str, str]) -> list[str]:
        """Say which of *packages*, name → version, must not be installed, and why."""
        return list(denied(packages, self.own))

    def unwanted(self, package: str) -> list[str]:
        """The versions of *package* that must not be installed."""
        return sorted(version for name, version in malicious(self.own) if name == package)

    def known(self, packages: Mapping[str, str]) -> list[str]:
        """List the advisories that name one of *packages*."""
        return [
            f"{'' if name == 'litellm' else f'{name} {packages[name]}: '}{about}"
            for name, versions, about in self.vulnerable
            if name in packages and versions.contains(canonical(packages[name]), prereleases=True)
        ]


def advisories(denied: Iterable[str] = ()) -> Advisories:
    """Read what the package ships; *denied* are the operator's own."""
    rows = (
        (each["package"], SpecifierSet(each["versions"]), f"{each['about']}, {each['id']}")
        for each in shipped()["vulnerable"]
    )
    return Advisories(tuple(denied), tuple(rows))
