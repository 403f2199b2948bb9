"""tklb backs up what makes a server that server, and brings it back on a fresh one.

A map, from the top:  cli (commands) > view (what people read) > flow (the stories: backup, restore)
> restore (plan and apply) > profile (install state), store (target, engine, ledger), keys, snapshot
> system (ask and change the machine) > delta (what differs; pure) > config > run, durable
> model (the nouns) > errors.  Imports go downwards only.
"""

__version__ = "0.1.0"
