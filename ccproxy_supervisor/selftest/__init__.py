"""Shows on a real machine what the daemon takes for granted there: in the caller, and in a job inside launchd."""
