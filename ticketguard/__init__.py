"""Sign a sparse neural network and prove later, to anyone, that a suspect model descends from it."""
