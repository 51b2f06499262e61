"""What becomes of a gateway, and what a peer that lies does."""

from enum import StrEnum


class Kind(StrEnum):
    """What becomes of a chain's gateway."""

    HONEST = "honest"
    RESTORED = "restored"
    CLONED = "cloned"
    FORGED = "forged"


class Trait(StrEnum):
    """What a dishonest peer does with what it hears."""

    KEEPS_SILENT = "silent"
    VOTES_FOR_ALL = "all"
    VOTES_FOR_NOTHING_REAL = "invents"
    LIES_ABOUT_TIPS = "tips"
    FREEZES_WRONGLY = "freezes"
    REPLAYS = "replays"
    TALKS_GARBAGE = "garbage"
