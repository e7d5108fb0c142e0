"""The result files of a run: a typed record for each, with its units; nothing else reads or writes one."""
