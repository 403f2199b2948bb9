"""What belongs to a cluster of PostgreSQL and to none of its databases."""
