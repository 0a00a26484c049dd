from ci_tasks import ns

__all__ = ["ns"]
