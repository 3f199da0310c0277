"Recipes, and training one seed or several"
