"""Read and change this machine: files, packages, accounts and services. Nothing here decides what is right."""
