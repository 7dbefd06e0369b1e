"""A generated Langfuse project that lives: users, sessions, traces and scores which arrive, change and disappear.

world = build_world(WorldSettings(seed=7, hours=6))
app = create_app(world.store, clock=lambda: world.settings.settled_seconds)
"""

from lf_dagster.simulators.world.bulk import bulk_store
from lf_dagster.simulators.world.generator import World, build_world
from lf_dagster.simulators.world.settings import Ageing, WorldSettings

__all__ = ["Ageing", "World", "WorldSettings", "build_world", "bulk_store"]
