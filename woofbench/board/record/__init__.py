"The file of a row, and how to read it safely"
