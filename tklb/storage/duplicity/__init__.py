"""Any address that duplicity can reach as a backend, in a helper process."""

VERSION = "3.2.1"  # the one version of duplicity that tklb works with: both the engine and the helper check it
