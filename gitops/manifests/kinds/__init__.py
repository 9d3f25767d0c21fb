"""The kinds that people write, as models: fields in Compose's words, short forms accepted, values normalised.

Durations become nanoseconds, sizes bytes, CPUs billionths, modes integers. What is known but not supported yet stands
by name in each model's `NOT_YET`, and what Compose knows and no swarm has in its `NEVER`, so that it can be refused as
such.
"""

import sys
import types

# Pydantic looks for plug-ins in every package that is installed as soon as it builds a model: a tenth of the time of a
# small load, for what isn't there. This is what its own loader says where plug-ins are switched off.
_NO_PLUGINS = types.ModuleType("pydantic.plugin._loader")
_NO_PLUGINS.get_plugins = tuple  # type: ignore[attr-defined]
sys.modules.setdefault(_NO_PLUGINS.__name__, _NO_PLUGINS)
