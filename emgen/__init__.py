"""emgen: restoration of volume electron microscopy, and how far the result can be trusted."""

__version__ = "0.1.0"
