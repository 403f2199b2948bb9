"""Text that nobody may see. Pure."""


class Secret:
    """Text that nobody may see. It is printed and logged as `***`; only reveal() gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__
