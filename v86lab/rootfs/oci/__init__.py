"""Images of containers: from registries, OCI image layouts and `docker save`, as trees."""

from __future__ import annotations

from .manifest import OciConfig
from .pull import oci, oci_config

__all__ = ["OciConfig", "oci", "oci_config"]
