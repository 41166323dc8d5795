"""The process, its disk and its terminal: errors, signals, files, hosts, what is printed."""
