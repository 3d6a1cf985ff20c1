"""stream_features: the Faust app that folds transactions and labels into feature vectors.

transactions -> card stage -> terminal-log -> terminal stage -> features
labels -> label forwarder ------^
"""
