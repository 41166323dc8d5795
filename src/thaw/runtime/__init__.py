"""The process, its disk and its terminal: errors, signals, files, locks of a host, what is printed."""
