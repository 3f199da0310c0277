"The web board: static pages made from records"
