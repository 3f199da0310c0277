"The pages in docs/ and the README, made from notebooks and records"
