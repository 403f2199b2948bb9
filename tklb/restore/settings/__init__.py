"""Put the configuration of database servers in place after their databases are loaded, and try it."""
