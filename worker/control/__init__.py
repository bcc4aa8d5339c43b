"""Commands: some are for one worker of the group, the others for every worker."""
