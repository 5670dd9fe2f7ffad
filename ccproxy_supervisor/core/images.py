"""What two images of the supervisor in one process agree on."""

import signal

HANDED = "CCPROXY_RENEWAL"  # the variable by which one speaks to the next; never seen by anybody else
HEEDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)  # blocked until the next one hears them
