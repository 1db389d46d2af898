"""What a rehearsal knows of values: their kind, and which containers have contents that it does not know."""

import gc
from collections import defaultdict
from typing import Any

from .natives import ATOMS, CONTAINERS, DICTS, ITERATORS, VIEWS
from .unknown import Ended, Unknown, common_kind

# Levels of containers and bits of an int that can be turned into text in any case: Python's limit on an int's digits
# may be set as low as 640.
_SHOWN_DEEP, _SHOWN_BITS = 20, 2000
_SHOWN_WHOLE = ATOMS - {int}


class Knowledge:
    """What is known of values at the current point of a rehearsal."""

    def __init__(self) -> None:
        # More than 0 while the code that is rehearsed may not be running, since an answer decides.
        self.doubt = 0
        # Steps taken so far, each about a microsecond.
        self.steps = 0
        # Containers and iterators of which only the type is known, by id.
        self.vague: dict[int, Any] = {}
        # Of these, the sets whose members are known though their order is not, and the kind of the values of dicts.
        self.members: dict[int, set[Any]] = {}
        self._values_kind: dict[int, str] = {}

    def kind(self, value: Any) -> str:
        """The name of a value's type, `str` for a sub-call's answer too; of an unknown value, see `Unknown`."""
        if isinstance(value, Unknown):
            return value.kind
        if isinstance(value, str):
            return "str"
        return type(value).__name__

    def is_known(self, value: Any) -> bool:
        """Whether the value itself is known. The values inside a known container may still be unknown."""
        return not isinstance(value, Unknown) and id(value) not in self.vague

    def contents_known(self, value: Any) -> bool:
        """Whether the contents of a container are known, in whatever order."""
        return self.is_known(value) or id(value) in self.members

    def holds_unknown(self, value: Any) -> bool:
        """Whether a value is unknown, or holds one that is, at any depth."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if not self.is_known(one):
                return True
            if (type(one) in (list, tuple) or type(one) in DICTS) and id(one) not in seen:
                seen.add(id(one))
                waiting += one.values() if type(one) in DICTS else one
        return False

    def require_contents(self, values: list[Any]) -> None:
        """Raises Ended if a container whose contents are not known is among the values, or inside one of them.

        To be called before a built-in function looks into them."""
        if not self.vague:
            return
        seen: set[int] = set()
        waiting = list(values)
        while waiting:
            one = waiting.pop()
            if id(one) in self.vague:
                raise Ended
            if (type(one) in (list, tuple) or type(one) in DICTS) and id(one) not in seen:
                seen.add(id(one))
                waiting += one.values() if type(one) in DICTS else one
            elif type(one) in VIEWS | ITERATORS:
                waiting += gc.get_referents(one)

    def mark_drawn(self, values: list[Any]) -> None:
        """Marks the iterators among the values as unknown if this code may not be running: they may have advanced.

        A defaultdict too: where a built-in function looks up what it lacks, it gets another key.
        """
        drawn = ITERATORS | {defaultdict}
        waiting = [one for one in values if type(one) in drawn] if self.doubt else []
        while waiting:
            one = waiting.pop()
            self.blur(one)
            waiting += [inner for inner in gc.get_referents(one) if type(inner) in ITERATORS]

    def text_known(self, values: list[Any]) -> bool:
        """Whether everything that the text of these values shows is known.

        Raises Ended if turning them into text may fail (nested too deep, an int of too many digits), or would show a
        memory address.
        """
        known = True
        for _ in range(_SHOWN_DEEP):
            self.steps += len(values)
            inside: list[Any] = []
            for one in values:
                kind = type(one)
                if not self.is_known(one):
                    known = False
                elif kind in CONTAINERS or kind in VIEWS:
                    self.require_contents([one] if kind in VIEWS else [])
                    for held in (one.keys(), one.values()) if kind in DICTS else (one,):
                        if not set(map(type, held)) <= _SHOWN_WHOLE:
                            inside += held
                elif kind not in ATOMS or (kind is int and one.bit_length() > _SHOWN_BITS):
                    raise Ended
            if not inside:
                return known
            values = inside
        raise Ended

    def may_change(self, container: Any) -> bool:
        """Whether the caller may change this container. If not, its contents are not known from now on."""
        if self.doubt or not self.is_known(container):
            self.blur(container)
            return False
        return True

    def blur(self, container: Any) -> None:
        """Records that the contents of a container are not known from now on, except the kind of a dict's values."""
        self.vague[id(container)] = container
        self.members.pop(id(container), None)
        if type(container) in DICTS:
            self._values_kind[id(container)] = self.values_kind(container)
            if type(container) is defaultdict:
                # A later lookup by an unknown key may return any of these, and change it.
                for one in container.values():
                    self._blur_part(one)

    def blurred[T](self, container: T) -> T:
        """A container that the rehearsal has just made, as one whose contents are not known."""
        self.blur(container)
        return container

    def _blur_part(self, value: Any) -> None:
        if type(value) in CONTAINERS and self.is_known(value):
            self.blur(value)

    def values_kind(self, container: Any) -> str:
        """The kind that all values of a dict have, `any` if they differ, an empty text if there are none."""
        if id(container) in self._values_kind:
            return self._values_kind[id(container)]
        self.steps += len(container)
        return common_kind(map(self.kind, container.values()))

    def put_somewhere(self, container: Any, value: Any) -> None:
        """Adds a value to a container under a key that is not known, so that its contents are not known any more."""
        self.text_known([value])
        self.blur(container)
        if type(container) in DICTS:
            self._values_kind[id(container)] = common_kind((self._values_kind[id(container)], self.kind(value)))
            if type(container) is defaultdict:
                self._blur_part(value)

    def unordered(self, of: set[Any]) -> set[Any]:
        """The members of a set, for the caller to change. The set's order is not known from now on."""
        if id(of) not in self.members:
            self.blur(of)
            self.members[id(of)] = set(of)
        return self.members[id(of)]
