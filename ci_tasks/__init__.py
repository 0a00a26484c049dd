"""Invoke tasks that test many independent items on few, dear macOS machines."""

from ci_tasks.errors import VERSION as __version__  # noqa: N811  # the name that everybody looks for
from ci_tasks.tasks import ci, ns

__all__ = ["__version__", "ci", "ns"]
