"""What stands behind the commands of this folder; not part of the installed packages."""
