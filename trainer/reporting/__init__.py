"""Who is told during a run, and what they write."""
