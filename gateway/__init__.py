"""How to reach a model: wire, queue, access and state in front of the adapters."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("forecast-gateway")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0+unknown"
