"""What the stories share: the Langfuse stand-in with clients of it, as the tests of `source` have them."""

from __future__ import annotations

from tests.source.conftest import connect, lake, running_standin, standin, time

__all__ = ["connect", "lake", "running_standin", "standin", "time"]
