"""THE STORIES: each a page of verbs in the order things happen. The only place where keys, snapshot and store meet."""
