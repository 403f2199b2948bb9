"""The file system: walk, scan, hash and write entries, never through a link that somebody could plant."""
