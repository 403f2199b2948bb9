"""Users and groups: their differences, and the merge of the accounts of two machines. Pure."""
