"""Every setting: its type, its default and its one sentence."""

from emgen.config.run import Config, parse

__all__ = ["Config", "parse"]
