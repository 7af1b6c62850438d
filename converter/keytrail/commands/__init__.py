"""The commands, one module each: a module's name is the command's."""
