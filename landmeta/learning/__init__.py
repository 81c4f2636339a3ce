"""How one task is learned and differentiated through: learners, inner rules, algorithms, engines, kernels."""
