"""Recommendations from a trained model: bundles of what serving needs, ranking, explanations.

A `Bundle` holds plain tables and is opened with NumPy alone; `Recommender` answers from it, by raw
ids. What makes a bundle of a run (`bundling`) needs torch and RecBole and is imported when used.
"""
