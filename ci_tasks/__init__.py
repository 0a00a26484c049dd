"""Invoke tasks that test many independent items on few, dear macOS machines."""

__version__ = "0.1.0"

from ci_tasks.tasks import ci, ns

__all__ = ["__version__", "ci", "ns"]
