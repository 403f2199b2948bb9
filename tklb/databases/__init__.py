"""Databases: list, dump and load, one interface for every engine.

    interface.py    the interface of every engine
    servers.py      list and find the servers of this machine
    named_server.py   a server beside the default one of its engine
    foreign_servers.py  servers in containers
    filter.py       which databases, and the rows of which tables
    dump_format.py  a dump on disk: folders, files, server.json
    row_files.py    rows as lines, spread over files so that a change touches few of them
    read_back.py    loaded rows are read back and compared with the dump
    report.py       skipped items and notes of a dump or load
    data_folders.py make the folders that a configuration names, and move data
    locales.py      the locales of this machine, and those that it can make
    load.py         carry out the steps of a plan
    mariadb/        MariaDB and MySQL
    postgresql/     PostgreSQL

Both engines have the same files, a stage each:

    connection                one connection; the only module that knows the driver
    server                    the server, as the interface has it
    locations                 where the server keeps its data and logs
    settings                  the configuration of the server, and whether the server runs with it
    catalogue                 databases, tables and columns
    present_rows              which tables here have rows
    instances                 the servers beside the default one
    accounts                  users, roles and grants: out of the server and back
    definitions               statements that make everything but rows: out of the server and back
    dump/dump                 a dump of the server
    dump/consistent_snapshot  one moment for the client programs and for our own reads
    dump/dump_rows            the rows of tables, into files
    dump/manual_script        load.sql, for an administrator who has nothing but the stock client
    load/load                 a load of one database, undone where it fails
    load/load_rows            the rows of files, into tables
    load/swap                 a loaded database in the place of the one here

What an engine needs and the other does not, one of them alone:

    mariadb/new_instance           the data of an instance that this machine lacks, and its start
    mariadb/running_instances      the instances that run, restarted with another configuration
    mariadb/dump/split_output      the output of the dump program, split into the rows of tables
    mariadb/load/compare_rows      loaded rows against the dump
    mariadb/load/generated_values  generated values in the time zone that they belong to
    mariadb/load/server_settings   settings of the server that refuse a load, put aside for its time
    mariadb/load/server_watch      whether a server that loads still does something
    mariadb/load/storage_engines   plugins of storage engines, for the tables that need them
    postgresql/cluster/role_settings   settings of roles and databases, and why sessions do not get them
    postgresql/cluster/tablespaces   tablespaces, and the relations in them
    postgresql/dump/details        properties, large objects and positions of sequences, into files
    postgresql/dump/pg_dump        pg_dump and pg_restore: the definitions as two scripts
    postgresql/dump/remarks        what a dump lacks, and constraints that rows may break
    postgresql/dump/psql_stream    psql, which streams rows out of the server
    postgresql/load/adapt_rows     rows in the form of a newer server
    postgresql/load/compare_rows   loaded rows against the dump
    postgresql/load/fingerprint    definitions and roles that no code of owners may change
    postgresql/load/fresh_table    the rows of a new table, in the order of the dump
    postgresql/session_settings    the settings of every session of ours
    postgresql/script              a script of definitions, cut into statements and entries
    postgresql/load/scratch        the database that a load fills
    postgresql/load/load_tables    a load of single tables
    postgresql/load/weaken         refused definitions, in a form that the server takes
    postgresql/load/relax          constraints that rows do not hold, put aside while they load
    postgresql/load/leftover       what was refused, tried again and reported
    postgresql/settings_trial      settings of another cluster, as far as the server runs with them

`__all__` lists the entry points of a stage: they are the same in both engines. Other names without an underscore are
lent by one stage of an engine to its other stages. The front door of an engine is its package: find_server, and the
login of its administrator.
"""
