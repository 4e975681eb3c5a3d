"""Stage `calibrate`: a float graph and texts -> the same graph with Q/DQ."""

from trtbert.calibrate.choose import Calibrated, Part, Trial, calibrate
from trtbert.calibrate.plan import GemmPlan
from trtbert.calibrate.sensitivity import Budget, Cost, fit_budget, measure_costs

__all__ = ["Budget", "Calibrated", "Cost", "GemmPlan", "Part", "Trial", "calibrate", "fit_budget", "measure_costs"]
