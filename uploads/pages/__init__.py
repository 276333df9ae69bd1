"""Pages of files. They work without JavaScript, which only refreshes states."""
