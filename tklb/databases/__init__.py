"""Databases: list, dump and load, one protocol for every engine.

protocol.py    what every engine can do, and what is asked of it
rows.py        rows as lines, spread over files so that a change touches few of them
dump.py        what a dump is on disk: folders, files, catalogue.json
mysql/         MariaDB and MySQL
postgres/      PostgreSQL
"""
