"""What no log may show, in every form in which programs write it down."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap
from urllib.parse import quote, quote_plus

HIDDEN = b"***"
SHORTEST = 6  # hiding `true`, `INFO` or `8081` would only spoil the logs
_WORD, _LONG = 8, 31  # bytes that are looked at at a time; of a value that is found by its words, see `within`
_FEW = 8  # values that are found faster one by one: 2 GB/s for each, 500 MB/s by their words for all together
_SAFE = ("", "/", "!'()*~", "/:@!$&'()*+,;=~")  # by whom a URL is made: what is left as it is


@dataclass(frozen=True)
class Secrets:
    """*values* that no log may show, longest first."""

    values: tuple[bytes, ...] = ()

    def plus(self, more: Iterable[bytes]) -> Secrets:
        """Add *more* in all its forms; each line of a value counts, shorter ones than `SHORTEST` do not."""
        lines = {line.strip() for value in more for line in value.splitlines()}
        found = {form for line in lines if len(line) >= SHORTEST for form in forms(line)}
        known = {form for form in found if len(form) >= SHORTEST} | set(self.values)
        if len(known) == len(self.values):
            return self
        return Secrets(tuple(sorted(known, key=lambda value: (-len(value), value))))

    @cached_property
    def _sieve(self) -> tuple[list[bytes], list[bytes], frozenset[int], int]:
        """What is looked for by itself; the long values if they are many, all their words, and which of the words of a text are
        looked at: every so many."""
        long = [value for value in self.values if len(value) >= _LONG]
        long = long if len(long) > _FEW else []
        words = {memoryview(each[at : at + _WORD]).cast("Q")[0] for each in long for at in range(len(each) - _WORD + 1)}
        step = (min(map(len, long), default=_LONG) - _WORD + 1) // _WORD
        return [value for value in self.values if value not in long], long, frozenset(words), step

    def within(self, data: bytes | bytearray | mmap, end: int, start: int = 0) -> bool:
        """Whether a secret stands in *data* from *start* to *end*.

        A long value that stands anywhere covers one of every few words of the text whole: these are looked up, once for all.
        To look for each of a dozen forms of each of many secrets would cost a log more than all the rest.
        """
        short, long, words, step = self._sieve
        if any(data.find(value, start, end) >= 0 for value in short):
            return True
        if not words:
            return False
        with (
            memoryview(data) as whole,
            whole[start : end - (end - start) % _WORD].cast("Q") as text,
            text[::step] as looked_at,
        ):
            clean = words.isdisjoint(looked_at)
        return not clean and any(data.find(value, start, end) >= 0 for value in long)

    def mask(self, data: bytes) -> bytes:
        for value in self.values:
            data = data.replace(value, HIDDEN)
        return data

    def begun(self, data: bytes) -> int:
        """The length of the longest end of *data* with which a secret may be beginning."""
        return max(
            (size for value in self.values for size in range(1, len(value)) if data.endswith(value[:size])), default=0
        )


def forms(secret: bytes) -> Iterator[bytes]:
    """Write *secret* as logs, URLs, pages and headers do."""
    text = secret.decode("utf-8", "replace")
    yield secret
    once = set(_quoted(text))
    for written in (*once, *(again for each in once for again in _quoted(each)), *_in_url(text), *_in_page(text)):
        yield written.encode()
    yield from _base64(secret)


def _quoted(text: str) -> Iterator[str]:
    """As a string of JSON (of Go's too, which is wary of pages) and of Python."""
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    yield repr(text)[1:-1]


def _in_url(text: str) -> Iterator[str]:
    for written in (*(quote(text, safe=safe) for safe in _SAFE), quote_plus(text)):
        yield written
        first, *rest = written.split("%")
        yield "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _in_page(text: str) -> Iterator[str]:
    for quote_too in (True, False):
        written = html.escape(text, quote=quote_too)
        yield written
        yield written.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        yield written.replace("&#x27;", "&apos;")


def _base64(secret: bytes) -> Iterator[bytes]:
    """As a part of something in base64, such as `Basic` credentials: wherever it begins there, and without what its
    neighbours share in."""
    for before in range(3):
        begins, ends = (before * 8 + 5) // 6, (before + len(secret)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            written = encode(bytes(before) + secret)[begins:ends]
            yield written
            yield quote(written, safe="").encode()
