"""The keys by which a client leaves a terminal without ending what runs in it. Pure."""

from __future__ import annotations

from gitops import errors

DEFAULT = "ctrl-p,ctrl-q"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q`, or of whatever else is given; the default for "".

    Raises:
        errors.Invalid: a key that isn't there.
    """
    return bytes(_key(word, text) for word in (text or DEFAULT).split(","))


def _key(word: str, text: str) -> int:
    letter = word.lower().removeprefix("ctrl-")
    if len(word) == 1 and word.isascii():
        return ord(word)
    if word.lower().startswith("ctrl-") and len(letter) == 1:
        if "a" <= letter <= "z":
            return ord(letter) - ord("a") + 1
        if letter in _SPECIAL:
            return _SPECIAL[letter]
    if word == "DEL":
        return 127
    raise errors.Invalid(
        f"Invalid detach keys ({text}) provided: a letter, DEL, or ctrl- with a-z, @, [, \\, ], ^ or _"
    )


class Scanner:
    """Looks for the keys in what a client types, across pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys have come; a beginning of them is held back meanwhile."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    return bytes(passed), True
                continue
            # It wasn't them: what was held back was meant for the process, and this byte may begin them anew.
            passed += self._keys[: self._seen]
            self._seen = int(byte == self._keys[0])
            if not self._seen:
                passed.append(byte)
        return bytes(passed), False
