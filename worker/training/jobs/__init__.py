"""Jobs on disk, shared by the workers of a log directory."""
