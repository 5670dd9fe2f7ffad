"""Between reading and writing: little waits while the disk works, little is lost when it does not."""

import threading
import time

from ccproxy_supervisor.edge.logs import backlog
from ccproxy_supervisor.edge.logs.backlog import CHUNK, LIMIT, RESERVE, SHALLOW, Backlog, Piece


def test_the_supervisors_own_lines_never_wait_and_find_room_beside_a_flood(monkeypatch):
    monkeypatch.setattr(backlog, "PATIENCE", 0.01)
    it = Backlog()
    flood = bytes(CHUNK - 256)
    while it.offer(Piece("stdout", flood, 0, len(flood))):
        pass
    assert it.put(Piece("supervisor", b"line\n", 0, 5))
    assert not it.put(Piece("supervisor", flood, 0, RESERVE))


def test_of_a_flood_a_working_disk_loses_nothing_and_little_waits_for_it(monkeypatch):
    monkeypatch.setattr(backlog, "PATIENCE", 30.0)
    it, waiting = Backlog(), []

    def disk():
        while taken := it.take(None):
            waiting.append(it._held)
            time.sleep(0.001 * len(taken))  # slower than the flood, but HEALTHY
            it.done(taken)

    thread = threading.Thread(target=disk)
    thread.start()
    assert all(it.offer(Piece("stdout", bytes(CHUNK), 0, CHUNK)) for _ in range(3 * LIMIT // CHUNK))
    it.close()
    thread.join()
    assert max(waiting) <= SHALLOW


def test_buffers_are_used_again_and_given_back_in_a_lull(monkeypatch):
    monkeypatch.setattr(backlog, "SETTLED", 0.01)
    it = Backlog()
    buffer = it.buffer()
    assert it.offer(Piece("stdout", buffer, 0, CHUNK))
    assert it.done(it.take(0))
    assert it.buffer() is buffer
    assert it.offer(Piece("stdout", buffer, 0, CHUNK))
    assert it.done(it.take(0))
    assert it.take(0.02) == []
    assert it.buffer() is not buffer
