"""Commands: one worker of the group does what must be done once, every worker hears the rest."""
