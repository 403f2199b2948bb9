"""The start, and the only exit."""

import sys

from tklb.cli.main import discard_unwritten, run_command


def main() -> None:
    status = run_command(sys.argv[1:])
    discard_unwritten()
    sys.exit(status)


if __name__ == "__main__":
    main()
