"""The Spark engine: the same fold in Spark tasks, the trees by xgboost.spark.

Rule 1. pyspark is imported nowhere else, and here only when it is asked for: no service needs it.
"""
