"""THE WAY BACK: plan (pure), apply (one match over steps)."""
