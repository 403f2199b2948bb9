"""Frozen dataclasses whose methods are written when somebody first uses one.

Python compiles six methods for each of them, which takes most of a millisecond. A command imports some hundred and
fifty of these classes and uses a few: that was a third of its start. Here a class gets its slots at once, and has
`dataclasses` write the methods at their first use. Type checkers see the decorator of `dataclasses` itself.
"""

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_METHODS = (
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__init__", "__repr__", "__eq__", "__hash__",
    "__setattr__", "__delattr__", "__getstate__", "__setstate__",
)  # fmt: skip
_ORDER = ("__lt__", "__le__", "__gt__", "__ge__")
_lock = threading.RLock()

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, order: bool = False) -> Callable[[type], type]:
        """Do as late as possible what the decorator of this name in `dataclasses` does at once."""
        if frozen and slots:
            return lambda plain: _delay(plain, order)
        return dataclasses.dataclass(frozen=frozen, slots=slots, order=order)


class _LateMethod:
    """Stands in the place of a method, or of the fields: whoever looks it up has all methods written first."""

    def __init__(self, write: Callable[[type], None]) -> None:
        self._write = write

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:  # noqa: ANN401  whatever the class has by this name
        self._write(self._owner)
        return getattr(owner if instance is None else instance, self._name)


def _delay(plain: type, order: bool) -> type:
    """Return the class with its slots, and with a late method in the place of each that it does not define itself."""
    fields = tuple(plain.__annotations__)
    own = {name: value for name, value in vars(plain).items() if name not in (*fields, "__dict__", "__weakref__")}
    late = [name for name in (_METHODS + _ORDER if order else _METHODS) if own.get(name) is None]

    def write(owner: type) -> None:
        with _lock:
            if late:  # else another thread was faster
                whole = vars(dataclasses.dataclass(frozen=True, slots=True, order=order)(plain))
                for name in late:
                    setattr(owner, name, whole[name])
                late.clear()

    members = {"__qualname__": plain.__qualname__, "__slots__": fields} | {name: _LateMethod(write) for name in late}
    return type(plain)(plain.__name__, plain.__bases__, own | members)
