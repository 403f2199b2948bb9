"""Frozen dataclasses that cost next to nothing to import.

`dataclasses` compiles six methods for each of them, which takes most of a millisecond. A command imports some hundred
and fifty of these classes and uses a part: that was a third of its start. Here they share methods that are written
once. Only `__init__` is compiled, when the first value is made, and `dataclasses` itself is asked when somebody wants
the fields. Type checkers see the decorator of `dataclasses`.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, order: bool = False) -> Callable[[type], type]:
        """Give what the decorator of this name in `dataclasses` gives, for less."""
        if frozen and slots:
            return lambda plain: _make_class(plain, order)
        return dataclasses.dataclass(frozen=frozen, slots=slots, order=order)


_Field = dataclasses.Field[Any]
_Method = Callable[..., Any]
_LATE = ("__dataclass_fields__", "__dataclass_params__")


class _LateMember:
    """Stands in the place of a member of a class until somebody looks it up. Threads may do so at the same time."""

    def __init__(self, make: Callable[[type, str], object]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:  # noqa: ANN401  whatever the class has by this name
        setattr(self._owner, self._name, self._make(self._owner, self._name))
        return getattr(owner if instance is None else instance, self._name)


def _make_class(plain: type, order: bool) -> type:
    """Return the class with slots. Methods that it defines itself stay."""
    annotations = plain.__annotations__.items()
    fields = {name: _read_field(plain, name) for name, kind in annotations if "ClassVar" not in str(kind)}
    own = {name: value for name, value in _list_members(plain) if name not in fields}
    if "__eq__" in own and own["__hash__"] is None:  # Python sets this, and dataclasses overrule it
        del own["__hash__"]
    members = {
        "__qualname__": plain.__qualname__,
        "__slots__": tuple(fields),
        "__match_args__": tuple(name for name, one in fields.items() if one.init),
        "__init__": _LateMember(lambda owner, _name: _compile_init(owner, fields)),
        "__repr__": _write_repr([name for name, one in fields.items() if one.repr]),
        "__setattr__": _refuse_assignment,
        "__delattr__": _refuse_deletion,
        "__getstate__": _get_state,
        "__setstate__": _set_state,
        **_write_comparisons([name for name, one in fields.items() if one.compare], order),
        **{name: _LateMember(lambda _owner, name: _ask_dataclasses(plain, order, name)) for name in _LATE},
    }
    return type(plain)(plain.__name__, plain.__bases__, members | own)


def _list_members(plain: type) -> list[tuple[str, object]]:
    """List what the text of the class says, without what Python adds for values without slots."""
    return [item for item in vars(plain).items() if item[0] not in ("__dict__", "__weakref__")]


def _read_field(plain: type, name: str) -> _Field:
    default = vars(plain).get(name, MISSING)
    return default if isinstance(default, dataclasses.Field) else dataclasses.field(default=default)


def _ask_dataclasses(plain: type, order: bool, name: str) -> object:
    copy = type(plain)(plain.__name__, plain.__bases__, dict(_list_members(plain)))
    return vars(dataclasses.dataclass(frozen=True, order=order)(copy))[name]


# ---------------------------------------------------------------- making a value


def _compile_init(owner: type, fields: Mapping[str, _Field]) -> _Method:
    """Compile it with real parameters, which are faster than names that are looked up."""
    space: dict[str, Any] = {"new": MISSING}
    space |= {f"set_{name}": getattr(owner, name).__set__ for name in fields}
    space |= {f"default_{name}": one.default for name, one in fields.items()}
    space |= {f"make_{name}": one.default_factory for name, one in fields.items()}
    parameters = ", ".join(["self", *(_write_parameter(name, one) for name, one in fields.items() if one.init)])
    lines = [f"set_{name}(self, {value})" for name, one in fields.items() if (value := _write_value(name, one))]
    lines += ["self.__post_init__()"] if hasattr(owner, "__post_init__") else []
    exec(f"def __init__({parameters}):\n  " + "\n  ".join(lines or ["pass"]), space)  # noqa: S102 - names of our own
    init: _Method = space["__init__"]
    init.__qualname__ = f"{owner.__qualname__}.__init__"
    return init


def _write_parameter(name: str, one: _Field) -> str:
    if one.default_factory is not MISSING:
        return f"{name}=new"
    return name if one.default is MISSING else f"{name}=default_{name}"


def _write_value(name: str, one: _Field) -> str:
    """The expression for what a field gets; none where only __post_init__ sets it."""
    if one.default_factory is not MISSING:
        return f"make_{name}() if {name} is new else {name}" if one.init else f"make_{name}()"
    if one.init:
        return name
    return "" if one.default is MISSING else f"default_{name}"


# ---------------------------------------------------------------- methods that classes share


def _write_comparisons(names: Sequence[str], order: bool) -> dict[str, _Method]:
    """Values of one class are equal, and have an order, as their fields are and have."""
    key = operator.attrgetter(*names) if names else _give_nothing

    def is_equal(self: object, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def compare_by(name: str) -> _Method:
        compare = getattr(operator, name)

        def method(self: object, other: object) -> bool:
            return compare(key(self), key(other)) if other.__class__ is self.__class__ else NotImplemented

        return method

    ordering = {name: compare_by(name) for name in ("__lt__", "__le__", "__gt__", "__ge__")} if order else {}
    return {"__hash__": lambda self: hash(key(self)), "__eq__": is_equal, **ordering}


def _give_nothing(_value: object) -> tuple[()]:
    return ()


def _write_repr(names: Sequence[str]) -> _Method:
    def show(self: object) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({fields})"

    return show


def _refuse_assignment(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[object]:  # noqa: ANN401  of any class with slots
    return [getattr(self, name) for name in self.__slots__]


def _set_state(self: Any, state: Iterable[object]) -> None:  # noqa: ANN401  of any class with slots
    for name, value in zip(self.__slots__, state, strict=True):
        object.__setattr__(self, name, value)
