"""Reads what workers write: one thread for all pipes, asleep while they are silent."""

from __future__ import annotations

import math
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from mmap import mmap

from ccproxy_supervisor.core.secrets import HIDDEN, SHORTEST, Secrets
from ccproxy_supervisor.edge.logs.backlog import Backlog, Piece
from ccproxy_supervisor.edge.logs.capture import PIPE, Capture, Pipe
from ccproxy_supervisor.edge.logs.tally import Tally
from ccproxy_supervisor.launcher.spool import Full, Spool

LONGEST = 64 << 10  # an unfinished line longer than this is passed on in parts
SILENCE = 1.0  # seconds after which an unfinished line is passed on
SMALL = 32 << 10  # less than this in one round …
PAUSE = 0.001  # … while data keeps coming: let the pipes fill; a wake-up for every line costs four times the CPU
STUMBLE = 0.1  # seconds until it goes on after a fault
HAND_ON = 64 << 10  # a longer read goes on in its buffer, a shorter one is copied out of it


class Reader(threading.Thread):
    """Passes on whole lines, secrets hidden. Only this thread touches the pipes; others give it orders."""

    def __init__(self, backlog: Backlog, tally: Tally, secrets: Callable[[], Secrets]) -> None:
        super().__init__(name="log-reader", daemon=True)
        self._backlog, self._tally, self._secrets = backlog, tally, secrets
        self._orders: deque[Callable[[], None]] = deque()
        self._door, self._stopped = threading.Lock(), False
        self._woken, self._waker = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._pipes: set[Pipe] = set()
        self._unfinished: dict[str, Pipe] = {}  # who wrote the unfinished line at the end of a log
        self._buffer = backlog.buffer()
        self._last_round = 0.0

    def capture(self, spool: Spool | None, ours: Mapping[str, int] | None = None) -> Capture:
        """Pipes for a worker, or *ours* of one that has its own, and what *spool* holds of them."""
        capture = Capture(lambda pipes: self._order(lambda: self._dismiss(pipes)), spool, ours)
        self._order(lambda: self._admit(capture.pipes))
        return capture

    def collect(self, spool: Spool) -> None:
        """Pass on what is held of a worker that is gone."""
        self._order(lambda: self._collect(spool))

    def stop(self) -> None:
        """Read what the pipes hold now, and end."""
        self._order(self._read_out)

    def leave(self) -> None:
        """End, and let another supervisor go on with the pipes."""
        self._order(self._leave)

    def run(self) -> None:
        while not self._stopped:
            try:
                self._round()
            except Exception as error:  # without this thread every worker would soon wait for a full pipe
                self._tally.stumbled(self.name, error)
                time.sleep(STUMBLE)
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)

    def _round(self) -> None:
        due = min((pipe.due for pipe in self._pipes), default=math.inf)
        if self._orders:  # one that failed
            due = 0.0
        got = 0
        for key, _ in self._selector.select(None if due == math.inf else max(0.0, due - time.monotonic())):
            if key.data is None:
                os.read(self._woken, 4096)
            else:
                got += self._read(key.data)
        while self._orders:
            self._orders.rotate(-1)  # one that fails is tried again after the others
            self._orders[-1]()
            self._orders.pop()
        self._pass_on_unfinished()
        self._pace(got)

    def _order(self, order: Callable[[], None]) -> None:
        with self._door:
            if not self._stopped:
                self._orders.append(order)
                os.write(self._waker, b".")

    def _admit(self, pipes: list[Pipe]) -> None:
        for pipe in pipes:
            if pipe not in self._pipes:
                self._selector.register(pipe.fd, selectors.EVENT_READ, pipe)
                self._pipes.add(pipe)
                self._take_up(pipe)

    def _take_up(self, pipe: Pipe) -> None:
        """Go on with what an earlier reader has left, as if it had been read now."""
        if pipe.lane is None:
            return
        pipe.carry = pipe.lane.held()
        pipe.held = len(pipe.carry)
        if dropped := pipe.lane.dropped:
            pipe.lane.forget_dropped()
            self._tally.count(pipe.log, dropped=dropped)
            self._tally.failed("keep", pipe.log, f"{dropped} bytes were too many while there was no supervisor")
            self._tally.resumed("keep", pipe.log)
        if cut := pipe.carry.rfind(b"\n") + 1:
            whole, pipe.carry = pipe.carry[:cut], pipe.carry[cut:]
            pipe.held = len(pipe.carry)
            self._give(pipe, self._secrets().mask(whole))
        if pipe.carry:
            pipe.due = time.monotonic() + SILENCE
        if len(pipe.carry) > LONGEST:
            self._release(pipe)

    def _collect(self, spool: Spool) -> None:
        capture = Capture(self._dismiss, spool, {})
        for log, lane in spool.lanes.items():
            self._take_up(pipe := Pipe(log, -1, capture, lane))
            self._release(pipe, final=True)
        self._backlog.put(Piece("stdout", b"", 0, 0, last=spool))

    def _dismiss(self, pipes: list[Pipe]) -> None:
        for pipe in self._pipes.intersection(pipes):
            got = 0
            while pipe in self._pipes and got < PIPE and (more := self._read(pipe)):
                got += more
            if pipe in self._pipes:
                self._end(pipe)

    def _read_out(self) -> None:
        self._dismiss(list(self._pipes))
        self._leave()

    def _leave(self) -> None:
        with self._door:
            self._stopped = True

    def _read(self, pipe: Pipe) -> int:
        """Read once; returns how much."""
        before = pipe.lane.end if pipe.lane else 0
        try:
            got, data, start, end = self._fetch(pipe)
        except BlockingIOError:
            return 0
        if got == 0:
            self._end(pipe)
            return 0
        cut = data.rfind(b"\n", end - got, end) + 1
        with memoryview(data) as whole:
            pipe.carry = bytes(whole[cut or start : end])
        if pipe.lane and pipe.lane.end > before:
            pipe.held = min(pipe.held + got, len(pipe.carry))
        elif cut:
            pipe.held = 0
        pipe.due = time.monotonic() + SILENCE if pipe.carry else math.inf
        if cut > start:
            self._pass_on(pipe, data, start, cut)
        if len(pipe.carry) > LONGEST:
            self._release(pipe)
        return got

    def _fetch(self, pipe: Pipe) -> tuple[int, bytes | bytearray | mmap, int, int]:
        """Read once; returns how much, and where that is behind the unfinished line: in the lane if it can be, for it is
        written from there; else in our buffer. A line that goes over the ring's end is passed on by itself, in a copy."""
        lane, kept = pipe.lane, len(pipe.carry)
        if lane:
            with suppress(Full):  # the disk is slower than the worker writes: what waits for it will not outlive us
                got = lane.read(pipe.fd)
                if place := lane.place(kept + got) if kept == pipe.held else None:
                    return got, *place
                memory, start, end = lane.place(got) or (b"", 0, 0)
                if not (first := memory.find(b"\n", start, end) + 1):
                    return got, pipe.carry + memory[start:end], 0, kept + got
                line, pipe.carry, pipe.held = pipe.carry + memory[start:first], b"", end - first
                self._pass_on(pipe, line, 0, len(line))
                return got, memory, first, end
        view = memoryview(self._buffer)
        view[:kept] = pipe.carry
        got = os.readv(pipe.fd, [view[kept:]])
        return got, self._buffer, 0, kept + got

    def _end(self, pipe: Pipe) -> None:
        self._release(pipe, final=True)
        self._pipes.remove(pipe)
        self._selector.unregister(pipe.fd)
        os.close(pipe.fd)
        if pipe.capture.ended(pipe) and pipe.capture.spool:
            self._backlog.put(Piece(pipe.log, b"", 0, 0, last=pipe.capture.spool))

    def _pass_on(self, pipe: Pipe, data: bytes | bytearray | mmap, start: int, cut: int) -> None:
        """Pass on whole lines."""
        secrets = self._secrets()
        if secrets.within(data, cut, start):
            self._give(pipe, secrets.mask(bytes(data[start:cut])))
        elif data is not self._buffer:
            self._give(pipe, data, start, cut)
        elif cut < HAND_ON:
            self._give(pipe, bytes(data[:cut]))
        elif self._give(pipe, data, 0, cut):
            self._buffer = self._backlog.buffer()

    def _pass_on_unfinished(self) -> None:
        now = time.monotonic()
        for pipe in self._pipes:
            if pipe.due <= now:
                self._release(pipe)

    def _release(self, pipe: Pipe, *, final: bool = False) -> None:
        """Pass on an unfinished line, but not what may be the beginning of a secret."""
        secrets = self._secrets()
        data = secrets.mask(pipe.carry)
        begun = secrets.begun(data)
        whole, pipe.carry, pipe.due = data[: len(data) - begun], data[len(data) - begun :], math.inf
        if final:
            whole, pipe.carry = whole + (HIDDEN if begun >= SHORTEST else pipe.carry), b""
        pipe.held = min(pipe.held, len(pipe.carry))
        if whole:
            self._give(pipe, whole)

    def _give(self, pipe: Pipe, data: bytes | bytearray | mmap, start: int = 0, end: int | None = None) -> bool:
        end = len(data) if end is None else end
        pipe.capture.saw(data, start, end)
        other = self._unfinished.pop(pipe.log, pipe)
        if other is not pipe:
            self._backlog.offer(Piece(pipe.log, b"\n", 0, 1))
        if data[end - 1] != ord("\n"):
            self._unfinished[pipe.log] = pipe
        position = pipe.lane.end - pipe.held if pipe.lane else 0
        if self._backlog.offer(Piece(pipe.log, data, start, end, pipe.lane, position)):
            return True
        self._tally.count(pipe.log, dropped=end - start)
        self._tally.failed("keep up with", pipe.log, "the disk is slower than the workers write, or hangs")
        return False

    def _pace(self, got: int) -> None:
        if 0 < got < SMALL and time.monotonic() - self._last_round < 2 * PAUSE:
            time.sleep(PAUSE)
        self._last_round = time.monotonic()
