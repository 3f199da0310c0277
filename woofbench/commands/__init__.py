"What a user calls: run, ablate, compare, reproduce, submit, and the command line"
