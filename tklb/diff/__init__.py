"""The differ: listings, rules and comparisons. Pure: values in, values out; no disk, no clock."""
