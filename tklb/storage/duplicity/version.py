"""The one version of duplicity that tklb works with."""

VERSION = "3.2.1"
