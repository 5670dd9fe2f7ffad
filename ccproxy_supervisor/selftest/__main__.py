"""What the self-test starts of itself: `step NAME`, whose result is its last line, and `job FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ccproxy_supervisor.selftest.inside import main
from ccproxy_supervisor.selftest.steps import BY_NAME

if __name__ == "__main__":
    verb, word = sys.argv[1:]
    if verb == "job":
        main(Path(word))
    else:
        print("\n" + json.dumps(BY_NAME[word].look().document()))
