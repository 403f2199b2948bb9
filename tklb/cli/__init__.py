"""The command line: one file for each command takes the options, calls a story and shows the result.

Nothing is decided here. `command_tree` maps the names that users type to these files.
"""
