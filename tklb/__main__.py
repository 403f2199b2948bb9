"""The start, and the only exit."""

import sys

from tklb.cli.main import run_command


def main() -> None:
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
