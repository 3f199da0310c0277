"Rows of the public board, which nobody measured here"
