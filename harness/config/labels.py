"""Label maps: which source ids of a mask make up a class. Data, never code."""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from harness.config.base import Frozen
from harness.files import fingerprint

UNDEFINED = 0
# As a training target: a pixel that no loss and no score counts.
IGNORE = 255
TIGER_IDS = tuple(range(8))

SourceId = Annotated[int, Field(ge=0, le=255)]


class LabelMap(Frozen):
    """Classes 1..K of a model, in file order, each a set of source ids; id 0 is always undefined.

    `ignore_ids` may occur in the data and are treated like undefined pixels by losses and by `val/...` scores.
    """

    name: str
    classes: dict[str, tuple[SourceId, ...]]
    ignore_ids: tuple[SourceId, ...] = ()

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_are_written_out(cls, value: object) -> object:
        if not isinstance(value, dict):
            names = ", ".join(BUILTIN)
            raise ValueError(f"{value!r} is not understood; write `builtin` ({names}), or classes with their ids")
        return value

    @field_validator("classes")
    @classmethod
    def _no_class_is_a_misspelt_key(cls, value: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name in value:
            if difflib.get_close_matches(name.lower(), ["ignore_ids"], cutoff=0.7):
                raise ValueError(f"class {name!r}: did you mean `ignore_ids`? Otherwise call the class something else")
        return value

    @model_validator(mode="after")
    def _ids_are_used_once(self) -> LabelMap:
        if not self.classes:
            raise ValueError("a label map needs at least one class, such as `tumor: [1, 3]`")
        seen: dict[int, str] = {UNDEFINED: "undefined", **dict.fromkeys(self.ignore_ids, "ignore_ids")}
        for name, ids in self.classes.items():
            if not ids:
                raise ValueError(f"class {name!r} has no source ids")
            for source_id in ids:
                if source_id in seen:
                    raise ValueError(
                        f"source id {source_id} is in {seen[source_id]!r} and in {name!r}; it can be in one"
                    )
                seen[source_id] = name
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of classes 1..K, in order."""
        return tuple(self.classes)

    @property
    def known_ids(self) -> frozenset[int]:
        """Every source id the map speaks of: its classes', the ignored ones and 0."""
        return frozenset((UNDEFINED, *self.ignore_ids, *(i for ids in self.classes.values() for i in ids)))

    def class_of(self, source_id: int) -> int | None:
        """1..K for an id in a class, None for undefined and ignored ids."""
        for index, ids in enumerate(self.classes.values(), start=1):
            if source_id in ids:
                return index
        return None

    @property
    def key(self) -> str:
        """Equal for maps with the same ids in the same classes, whatever the map and its classes are called."""
        ids = [sorted(ids) for ids in self.classes.values()]
        return fingerprint({"classes": ids, "ignore_ids": sorted(self.ignore_ids)})[:16]


BUILTIN: dict[str, LabelMap] = {
    # The seven classes of the TIGER challenge's WSIROIS.
    "tiger7": LabelMap(
        name="tiger7",
        classes={
            "invasive_tumor": (1,),
            "tumor_stroma": (2,),
            "in_situ_tumor": (3,),
            "healthy_glands": (4,),
            "necrosis": (5,),
            "inflamed_stroma": (6,),
            "rest": (7,),
        },
    ),
    # UNICORN challenge, task 9.
    "unicorn3": LabelMap(name="unicorn3", classes={"tumor": (1, 3), "stroma": (2, 6), "rest": (4, 5, 7)}),
    # The older merge of the TIGER challenge's leaderboard: in-situ tumor counts as rest. No yardstick: that has id 3
    # in its tumor.
    "tiger3": LabelMap(name="tiger3", classes={"tumor": (1,), "stroma": (2, 6), "rest": (3, 4, 5, 7)}),
}
