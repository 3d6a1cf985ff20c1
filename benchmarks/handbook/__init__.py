"""The Handbook benchmark: the published rows, the published protocol, this project's fold, side by side.

Rule 1. The book is Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection",
        Universite Libre de Bruxelles, 2022.
Rule 2. Features were chosen on test weeks before 2018-08-08; the four published weeks only measure. The settings of the fit are
        those of trainer/fit.py; docs/handbook.md says where they come from.
"""
