"""The layouts of the table of events, and the way from one to another.

`layouts` says what there is and reads it from the catalogue, `ddl` has the statements that make it.
"""

from .ddl import bring_empty
from .layouts import ByHash, ByTime, Layout, Plain, read

__all__ = ["ByHash", "ByTime", "Layout", "Plain", "bring_empty", "read"]
