"""A client that asks one question after the other."""

import http.client
import threading
import time


class Steady:
    """Asks a stub to print numbered lines, one after the other, on a connection each; *lost* are the questions that failed."""

    def __init__(self, port):
        self.said, self.lost, self._port = 0, [], port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request("GET", f"/print?line=number+{self.said:06d}")
                assert connection.getresponse().read()
            except Exception as error:
                self.lost.append(repr(error))
            connection.close()
            self.said += 1
            time.sleep(0.005)
