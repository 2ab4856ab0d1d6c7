"""One file a command of `reptile-agent`; a module's `Command` is its arguments and its work."""
