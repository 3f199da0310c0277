"Networks as specs of numbers and named parts, and what they cost"
