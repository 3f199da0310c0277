"The layers, optimiser and steps that make training quick"
