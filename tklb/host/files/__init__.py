"""Walk, scan, hash and write files, and never through a link that somebody could plant."""
