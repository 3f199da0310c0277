"Statistics of a few seeds"
