"""`python -m ccproxy_supervisor` is `ccproxy-supervisor`."""

from ccproxy_supervisor.cli import main

if __name__ == "__main__":
    main(prog_name="ccproxy-supervisor")
