"""Of ``make docs``: docstrings say :class:`~where.Name`, which Markdown has to be told."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(~?)([\w.]+)`")


def _in_markdown(role: re.Match[str]) -> str:
    is_short, name = role.groups()
    if "." not in name:
        return f"`{name}`"
    return f"[`{name.rpartition('.')[2] if is_short else name}`][{name}]"


class Roles(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_in_markdown, obj.docstring.value)
