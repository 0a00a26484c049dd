"""What this machine is, in the words of `ci.toml`."""

from __future__ import annotations

import platform

from ci_tasks.errors import BatchError
from ci_tasks.providers import Provider
from ci_tasks.report import Host
from ci_tasks.settings import Config

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Names that a kernel gives, and those that platforms have."""


def name() -> str:
    """Return system and architecture, such as `darwin-arm64`."""
    architecture = platform.machine().lower()
    return f"{platform.system().lower()}-{ARCHITECTURES.get(architecture, architecture)}"


def fitting(config: Config, arch: str) -> str:
    """Return a platform of the file; for `host`, the one that this machine is.

    :raises ConfigError: when the file has no such platform
    :raises BatchError: when it has none for this machine
    """
    if arch != "host":
        return config.platform(arch).name
    here = name()
    found = [entry.name for entry in config.platforms if f"{entry.system}-{entry.architecture}" == here]
    if not found:
        known = ", ".join(entry.name for entry in config.platforms)
        raise BatchError(f"this machine is {here}, which ci.toml does not have", hint=f"it has {known}")
    return here if here in found else found[0]


def check(wanted: str) -> None:
    """Make sure that this machine can run a platform's items.

    :raises BatchError: when it is another one
    """
    parts = wanted.split("-")
    if f"{parts[0]}-{parts[-1]}" != name():
        raise BatchError(
            f"this machine is {name()}, and the batch is for {wanted}",
            hint=f"run it on {wanted}, or add --insist when its items can run here",
        )


def host(provider: Provider) -> Host:
    return Host(
        name=platform.node(),
        platform=name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        provider=provider.name,
    )
