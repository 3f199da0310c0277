"Rows, their rank, and the check of a pull request"
