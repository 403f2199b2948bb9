"""A bucket of an S3 service as a backend."""
