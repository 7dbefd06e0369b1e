"""The Langfuse stand-in: both API generations over one store, in every deployment mode.

store = load_recorded("recorded.json.gz")
with serve(create_app(store, mode="v4-dual")) as server:
    ...  # requests to server.origin with the keys of store.project
"""

from lf_dagster.simulators.langfuse.app import create_app
from lf_dagster.simulators.langfuse.limits import PLANS, Limits
from lf_dagster.simulators.langfuse.modes import MODES, Mode
from lf_dagster.simulators.langfuse.recorded import from_rows, load_recorded
from lf_dagster.simulators.langfuse.store import ALWAYS, NEVER, ApiKey, Project, Store

__all__ = [
    "ALWAYS",
    "MODES",
    "NEVER",
    "PLANS",
    "ApiKey",
    "Limits",
    "Mode",
    "Project",
    "Store",
    "create_app",
    "from_rows",
    "load_recorded",
]
