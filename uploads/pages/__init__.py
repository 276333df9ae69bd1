"""Pages of files, which work without JavaScript."""
