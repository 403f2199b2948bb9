"""Take snapshots, list them, bring them back and check them: backup, list, restore, verify."""
