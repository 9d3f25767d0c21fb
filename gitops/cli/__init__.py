"""The commands: printing, progress and exit codes, no logic. Heavy modules are imported inside the command."""
